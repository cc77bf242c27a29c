"""A bulk job's processes on the nodes of a Ray cluster: one core task for each chunk."""

import dataclasses
import functools
import sys
import time
from pathlib import Path
from typing import Any

from app.bulk.answers import Done, Order, copy_of, work_on
from app.bulk.job import Chunk
from app.bulk.runner import Died, Ended, Lost
from app.settings import StartError
from models.cluster import SLOTS_PER_CPU, ClusterError, count, join, living_nodes

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
        self._task = self._new_task()
        self._flying: dict[Any, int] = {}
        self._looked = -_LOOK
        self._nodes, self._cpus = frozenset[str](), 0
        self._look()

    def _with_copy(self, order: Order) -> Order:
        """Return `order` with the model's bytes in the object store, for nodes that lack them."""
        try:
            stored = self._ray.put(copy_of(order.model))
        except OSError as error:
            raise StartError(f"{error.filename}: {error.strerror}") from error
        model = dataclasses.replace(order.model, copy=functools.partial(_fetch, [stored]))
        return dataclasses.replace(order, model=model)

    def slots(self) -> int:
        return SLOTS_PER_CPU * self._cpus

    def submit(self, chunk: Chunk) -> None:
        self._flying[self._task.remote(self._order, chunk)] = chunk.number

    def ended(self, seconds: float) -> list[Ended]:
        if lost := self._lost_with_a_node():
            return lost
        flying = list(self._flying)
        if not flying:  # no node has a CPU for it
            time.sleep(seconds)
            return []
        self._ray.wait(flying, num_returns=1, timeout=seconds)
        ready, _ = self._ray.wait(flying, num_returns=len(flying), timeout=0)
        return [self._outcome(task, self._flying.pop(task)) for task in ready]

    def description(self) -> str:
        return "1 node" if len(self._nodes) == 1 else f"{len(self._nodes)} nodes"

    def close(self) -> None:
        self._ray.shutdown()

    def _new_task(self) -> Any:
        """Return `work_on` as a kind of task of its own, with a queue of its own in Ray."""
        # A death is counted by who hands over the chunks: Ray alone would try for ever, or never.
        return self._ray.remote(num_cpus=1, max_retries=0)(work_on)

    def _look(self) -> bool:
        """Look which nodes there are, if that was not done just now. Return whether one is gone."""
        if time.monotonic() - self._looked < _LOOK:
            return False
        before, self._nodes = self._nodes, living_nodes(self._ray)
        self._looked, self._cpus = time.monotonic(), count(self._ray, "CPU")
        if self._nodes != before:
            _tell(f"{self.description()} at work, {self._cpus} CPUs")
        return not before <= self._nodes

    def _lost_with_a_node(self) -> list[Ended]:
        """Return all chunks that are not finished if a node is gone since the last look.

        Ray may wait for minutes for the answer of a node that vanished from the network, and does
        not say which tasks it had. A chunk that is done twice is written twice to the same part.
        """
        if not self._look():
            return []
        lost = list(self._flying.items())
        self._flying.clear()
        for task, _ in lost:
            self._ray.cancel(task)
        # The queue of the old kind may wait for the lost node, which it has asked for processes.
        self._task = self._new_task()
        _tell(f"a node is lost: {len(lost)} chunks are tried again")
        return [Lost(number) for _, number in lost]

    def _outcome(self, task: Any, number: int) -> Ended:
        """Return what became of a task that is over."""
        errors = self._ray.exceptions
        try:
            answer = self._ray.get(task)
        except errors.OutOfMemoryError:
            return Died(number, "process ended: its node was short of memory")
        except errors.WorkerCrashedError:
            return Died(number, "process ended")
        except errors.RayTaskError as error:  # not of a picture: `work_on` itself raises nothing
            raise StartError(
                f"A task failed: {error.cause!r}. Each machine of the cluster needs this "
                f"repository at {Path.cwd()}, and the same Python packages. See docs/bulk.md."
            ) from error
        except errors.RayError:
            return Lost(number)
        if isinstance(answer, str):
            raise StartError(answer)
        done: Done = answer
        return done


def _tell(what: str) -> None:
    """Print a line of the job's log on stderr, in the place of a progress bar."""
    clear = "\r\x1b[K" if sys.stderr.isatty() else ""
    print(f"{clear}{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def _fetch(stored: list[Any]) -> dict[str, bytes]:
    """Return the files of the model from the object store."""
    import ray

    files: dict[str, bytes] = ray.get(stored[0])
    return files
