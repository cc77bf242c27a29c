"""New models without a gap: the master reads the shelf again, and new workers take over.

SIGHUP makes it happen, from an operator or from a worker that was asked to load a model. Every
model has to be run once before it may answer; one that cannot be run is left out: the older stay.
"""

import contextlib
import dataclasses
import fcntl
import json
import logging
import mmap
import os
import select
import signal
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from flask import Flask

from app import create_app
from app.catalogue import Catalogue, Model, ShelfError, load_catalogue, load_model
from app.counting import VARIABLE
from app.errors import RequestError
from app.settings import Settings
from app.stopping import MOST_PATIENCE

_PATIENCE = MOST_PATIENCE + 10  # seconds for new workers to take over, their models tried before
_MOST_FILES = 1 << 20
_TRIAL = 20.0  # seconds that a model has to answer when it is tried


class Progress:
    """The master's reloads, as its workers see them: in memory that they share.

    Each has a number. It says which began last, which ended last, and whether that one succeeded.
    """

    _NUMBERS = struct.Struct("=QQ?")

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self._NUMBERS.size)

    @property
    def begun(self) -> int:
        return int(self._NUMBERS.unpack_from(self._memory)[0])

    @property
    def ended(self) -> int:
        return int(self._NUMBERS.unpack_from(self._memory)[1])

    @property
    def succeeded(self) -> bool:
        return bool(self._NUMBERS.unpack_from(self._memory)[2])

    def begin(self) -> int:
        """The number of the reload that begins."""
        number = self.begun + 1
        self._NUMBERS.pack_into(self._memory, 0, number, self.ended, self.succeeded)
        return number

    def end(self, number: int, succeeded: bool) -> None:
        """The reload `number` is over."""
        self._NUMBERS.pack_into(self._memory, 0, number, number, succeeded)


@dataclasses.dataclass(frozen=True)
class Unloaded:
    """The names of the models that were unloaded: they stay so until loaded, or until a restart."""

    path: Path | None  # shared by master and workers; None outside a service of ours

    @classmethod
    def of_this_service(cls) -> "Unloaded":
        folder = os.environ.get(VARIABLE)
        return cls(Path(folder) / "unloaded.json" if folder else None)

    def read(self) -> frozenset[str]:
        if self.path is None or not self.path.exists():
            return frozenset()
        return frozenset(json.loads(self.path.read_text()))

    def write(self, names: Iterable[str]) -> None:
        """Raise RequestError 503 where there is no room."""
        if self.path is None:
            return
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            partial.write_text(json.dumps(sorted(names)))
            partial.replace(self.path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            message = f"What is unloaded cannot be noted down ({error.strerror}). Nothing changed."
            raise RequestError(503, "not_reloaded", message) from error

    @contextlib.contextmanager
    def changing(self, app: Flask) -> Iterator[None]:
        """Have nobody else load or unload models meanwhile. Raises RequestError 503 after a while.

        The system frees the lock of a process that ends.
        """
        worker = app.extensions.get("worker")
        if self.path is None or worker is None:
            yield  # replace_workers will refuse
            return
        with self.path.with_name("unloaded.lock").open("w") as file:

            def locked() -> bool:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return True
                return False

            if not _wait(worker, locked, time.monotonic() + _PATIENCE):
                message = "Other models are being loaded or unloaded. Try again."
                raise RequestError(503, "not_reloaded", message)
            yield


def reread(settings: Settings, served: Catalogue, answered: set[str]) -> Flask:
    """The application for the shelf as it is now, after `served`; each of its models has answered.

    To be called in the master. Those that have answered are noted down in `answered`, and need not
    do so again. Raises StartError where there is nothing to serve.
    """
    unloaded = Unloaded.of_this_service().read()
    former = list(served)
    broken: dict[Path, str] = {}
    while True:
        shelf = load_catalogue(settings, lambda model: model.card.name in unloaded, broken, former)
        failed = try_each(shelf, answered)
        if not failed:
            return create_app(settings, shelf)
        broken |= {model.folder: problem for model, problem in failed.items()}
        former = [model for model in former if model not in failed]


def mended(catalogue: Catalogue, answered: set[str]) -> bool:
    """Whether one of the models that were left out can be served by now."""
    for folder in catalogue.passing:
        with contextlib.suppress(ShelfError):
            if not try_each([load_model(folder)], answered):
                return True
    return False


def new_in(shelf: Iterable[Model], served: Iterable[Model]) -> list[Model]:
    """The models of a shelf that are not served already, as they are now."""
    known = {(model.folder, _identity(model)) for model in served}
    return [model for model in shelf if (model.folder, _identity(model)) not in known]


def _identity(model: Model) -> str:
    """The same for models that run alike."""
    target = model.card.input
    image = f"{target.height}x{target.width}x{target.channels}"
    return f"{model.content.sha256} {image} {len(model.card.labels)}"


def try_each(models: Iterable[Model], answered: set[str]) -> dict[Model, str]:
    """What is wrong with those of `models` that cannot be run; the others are now in `answered`.

    Tried in a process that ends with the attempt: a session in the master would be in every worker.
    Where a model takes the process with it, another one tries the rest. Raises ShelfError where the
    system has no process to spare.
    """
    waiting = [model for model in models if _identity(model) not in answered]
    failed = {}
    while waiting:
        try:
            problems = _try_in_turn(waiting)
        except OSError as error:
            raise ShelfError(f"models cannot be tried now: {error.strerror}") from error
        if len(problems) < len(waiting):
            culprit = waiting[len(problems)].folder
            problems.append(f"{culprit}: it ended the process that tried it, or did not answer")
        for model, problem in zip(waiting, problems, strict=False):
            if problem:
                failed[model] = problem
            else:
                answered.add(_identity(model))
        waiting = waiting[len(problems) :]
    return failed


def _try_in_turn(models: list[Model]) -> list[str]:
    """What is wrong with each model, "" for nothing, as far as a process came that tried them.

    Raises OSError.
    """
    ours, theirs = os.pipe()
    with open(ours, "rb", buffering=0) as pipe:  # noqa: PTH123  (a descriptor, not a path)
        try:
            child = os.fork()
        except OSError:
            os.close(theirs)
            raise
        if child == 0:
            logging.disable()  # the master says it, once
            os.closerange(3, theirs)  # the port among them: it is not for this process to keep
            os.closerange(theirs + 1, _MOST_FILES)
            try:
                for model in models:
                    problem = dataclasses.replace(model).problem  # its session is gone with it
                    os.write(theirs, json.dumps(problem).encode() + b"\n")
            finally:
                os._exit(0)
        os.close(theirs)
        poller, text = select.poll(), b""
        poller.register(pipe, select.POLLIN)
        while poller.poll(1000 * _TRIAL) and (part := pipe.read(65536)):
            text += part
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return [json.loads(line) for line in text.rpartition(b"\n")[0].splitlines()]


def replace_workers(app: Flask) -> set[int]:
    """Have the master read the shelf again; return when this worker's successors have taken over.

    Returns the process ids of the other workers that have been replaced. Raises RequestError 501
    under another server than ours, 503 where the shelf cannot be served, or new workers do not
    take over in time: then all is as it was.
    """
    worker = app.extensions.get("worker")
    if worker is None:
        message = "This server cannot replace its workers; restart it to read the shelf again."
        raise RequestError(501, "cannot_reload", message)
    progress: Progress = worker.app.progress
    begun = progress.begun
    siblings = _children(worker.ppid) - {os.getpid()}
    os.kill(worker.ppid, signal.SIGHUP)
    deadline = time.monotonic() + _PATIENCE
    if not _wait(worker, lambda: progress.ended > begun, deadline):
        message = "The workers were not replaced in time; the log says why."
        raise RequestError(503, "not_reloaded", message)
    if not progress.succeeded:
        message = "The service could not be read again; the log says why. The models stay."
        raise RequestError(503, "not_reloaded", message)
    worker.replaced = True  # so that it takes up no caller's next request, with its old models
    return siblings


def wait_for_the_end_of(siblings: set[int], app: Flask) -> None:
    """Return when the replaced workers are gone, or after a while: at their last request."""
    worker = app.extensions["worker"]
    soon = time.monotonic() + 2
    _wait(worker, lambda: not siblings & _children(worker.ppid), soon)


def _wait(worker: Any, done: Callable[[], bool], deadline: float) -> bool:
    while not (over := done()) and time.monotonic() < deadline:
        worker.notify()  # the master would think that it hangs
        time.sleep(0.01)
    return over


def _children(pid: int) -> set[int]:
    """The processes of a parent; none where the system does not tell."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return set()
    return {int(child) for child in text.split()}
