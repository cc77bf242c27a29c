"""A bulk job's processes on the nodes of a Ray cluster: one core task for each chunk."""

import dataclasses
import functools
import time
from typing import Any

from app.bulk.answers import Done, Order, copy_of, work_on
from app.bulk.job import Chunk
from app.bulk.runner import Died, Ended, Lost
from app.settings import StartError
from models.cluster import SLOTS_PER_CPU, ClusterError, count, join, nodes

_LOOK = 5.0  # seconds between two looks at the nodes there are


class Cluster:
    """The tasks of a job. Pixels never enter the object store: a task gets names, and writes."""

    def __init__(self, address: str, order: Order) -> None:
        """Join the cluster at `address`. Raises StartError if it cannot be joined."""
        try:
            self._ray = join(address)
        except ClusterError as error:
            raise StartError(str(error)) from error
        self._order = self._ray.put(self._with_copy(order))
        # A death is counted by who hands over the chunks: Ray alone would try for ever, or never.
        self._task = self._ray.remote(num_cpus=1, max_retries=0)(work_on)
        self._flying: dict[Any, int] = {}
        self._looked = -_LOOK

    def _with_copy(self, order: Order) -> Order:
        """Return `order` with the model's bytes in the object store, for nodes that lack them."""
        try:
            stored = self._ray.put(copy_of(order.model))
        except OSError as error:
            raise StartError(f"{error.filename}: {error.strerror}") from error
        model = dataclasses.replace(order.model, copy=functools.partial(_fetch, [stored]))
        return dataclasses.replace(order, model=model)

    def slots(self) -> int:
        self._look()
        return SLOTS_PER_CPU * self._cpus

    def submit(self, chunk: Chunk) -> None:
        self._flying[self._task.remote(self._order, chunk)] = chunk.number

    def ended(self, seconds: float) -> list[Ended]:
        flying = list(self._flying)
        if not flying:  # no node has a CPU for it
            time.sleep(seconds)
            return []
        self._ray.wait(flying, num_returns=1, timeout=seconds)
        ready, _ = self._ray.wait(flying, num_returns=len(flying), timeout=0)
        return [self._outcome(task, self._flying.pop(task)) for task in ready]

    def description(self) -> str:
        return "1 node" if self._nodes == 1 else f"{self._nodes} nodes"

    def close(self) -> None:
        self._ray.shutdown()

    def _look(self) -> None:
        """Count the nodes again, if that was not done just now."""
        if time.monotonic() - self._looked >= _LOOK:
            self._looked = time.monotonic()
            self._cpus, self._nodes = count(self._ray, "CPU"), nodes(self._ray)

    def _outcome(self, task: Any, number: int) -> Ended:
        """Return what became of a task that is over."""
        errors = self._ray.exceptions
        try:
            answer = self._ray.get(task)
        except errors.OutOfMemoryError:
            return Died(number, "process ended: its node was short of memory")
        except errors.WorkerCrashedError:
            return Died(number, "process ended")
        except errors.RayTaskError as error:
            return Died(number, f"process failed: {error.cause!r}")
        except errors.RayError:
            return Lost(number)
        if isinstance(answer, str):
            raise StartError(answer)
        done: Done = answer
        return done


def _fetch(stored: list[Any]) -> dict[str, bytes]:
    """Return the files of the model from the object store."""
    import ray

    files: dict[str, bytes] = ray.get(stored[0])
    return files
