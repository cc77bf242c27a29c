"""Trainings as tasks on the nodes of a Ray cluster, each in a process of its own.

The nodes have this repository and the folders of the results at the same paths, which they share.
"""

import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from models.cluster import count, join, living_nodes
from models.data.storage import data_folder
from models.errors import MetaplasticError
from models.terminal import say

RETRIES = 3  # times that a task is started again whose process or node died, on any node
_ENVIRONMENT = ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL", "XLA_FLAGS")
_PATIENCE = 60.0  # seconds between two messages that no node works

Files = Mapping[str, bytes]  # by their paths in the data folder


class Trainings:
    """Trainings on a cluster. A GPU for each where the cluster has any, and else a processor."""

    def __init__(self, address: str, datasets: Iterable[str]) -> None:
        """Join the cluster at `address`, and keep the data sets there for nodes without them.

        Raises ClusterError.
        """
        self._ray = join(address)
        on_gpus = count(self._ray, "GPU") > 0
        self._unit = "GPU" if on_gpus else "CPU"
        self._task = self._ray.remote(
            num_cpus=1,
            num_gpus=int(on_gpus),
            max_retries=RETRIES,
            scheduling_strategy="SPREAD",
        )(_carry_out)
        variables = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        data = {path: content for name in set(datasets) for path, content in _files(name)}
        self._common = (variables, str(Path.cwd()), self._ray.put(data))
        self._flying: dict[Any, Any] = {}
        say(
            f"{len(living_nodes(self._ray))} nodes with {self.slots()} {self._unit}s at work",
            sys.stderr,
        )

    def slots(self) -> int:
        """Return how many trainings run at once."""
        return count(self._ray, self._unit)

    def start(self, key: Any, function: Callable[..., Any], *arguments: Any) -> None:
        """Have `function` called with `arguments` on a node. `key` names the call."""
        # Read by the task itself, after it has chosen the backend that the function's module needs.
        call = pickle.dumps((function, arguments))
        variables, folder, data = self._common
        self._flying[self._task.remote(call, variables, folder, [data])] = key

    @property
    def flying(self) -> set[Any]:
        """Return the keys of the calls that are not over."""
        return set(self._flying.values())

    def first_ended(self) -> tuple[Any, Any]:
        """Return the key and the result of a call that is over, after it is.

        Raises MetaplasticError as the call did, or if its processes died.
        """
        began = time.monotonic()
        while not (
            ready := self._ray.wait(list(self._flying), num_returns=1, timeout=_PATIENCE)[0]
        ):
            if not self.slots():
                waited = time.monotonic() - began
                say(f"no node has been there for {waited:.0f} s: waiting for one", sys.stderr)
        (task,) = ready
        key = self._flying.pop(task)
        try:
            return key, self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, MetaplasticError):
                raise error.cause from None
            raise
        except self._ray.exceptions.RayError as error:
            raise MetaplasticError(
                f"{key}: {RETRIES + 1} processes died ({error}). The same command continues."
            ) from error

    def close(self) -> None:
        """Leave the cluster. Calls that are not over are ended."""
        self._ray.shutdown()


def _carry_out(call: bytes, variables: Mapping[str, str], folder: str, data: list[Any]) -> Any:
    """Make a call in a task of the cluster."""
    os.environ.update(variables)
    os.chdir(folder)
    _provide(data[0])
    function, arguments = pickle.loads(call)  # noqa: S301  (from the program that started the task)
    return function(*arguments)


def _files(dataset: str) -> Iterable[tuple[str, bytes]]:
    """Yield the files of a data set in the data folder, by their paths in it."""
    from models.data.datasets import DATASETS

    root = data_folder()
    known = DATASETS.get(dataset)
    found = [root / f"{known.module}.npz"] if known and known.module else []
    for path in [*found, *(root / dataset).glob("*")]:
        if path.is_file():
            yield str(path.relative_to(root)), path.read_bytes()


def _provide(stored: Any) -> None:
    """Have METAPLASTIC_DATA name a folder with the data sets that the program has.

    That is the node's own folder if it has them, and else one that is filled once in a process.
    """
    import ray

    global _provided
    files: Files = ray.get(stored)
    if all((data_folder() / path).is_file() for path in files):
        if files:
            os.environ["METAPLASTIC_DATA"] = str(data_folder())
        return
    if _provided is None:
        _provided = tempfile.TemporaryDirectory(prefix="metaplastic-")
        for path, content in files.items():
            target = Path(_provided.name, path)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(content)
    os.environ["METAPLASTIC_DATA"] = _provided.name


_provided: tempfile.TemporaryDirectory[str] | None = None
