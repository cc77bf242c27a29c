"""New models without a gap: the master reads the shelf again, and new workers take over.

SIGHUP makes it happen, from an operator or from a worker that was asked to load a model. A version
that is new is run before it may answer; one that cannot be run is left out: the older ones stay.
"""

import contextlib
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flask import Flask

from app import create_app
from app.catalogue import Catalogue, Model, load_catalogue
from app.counting import VARIABLE
from app.errors import RequestError
from app.settings import Settings, StartError
from app.stopping import MOST_PATIENCE

_PATIENCE = MOST_PATIENCE + 5  # seconds for new workers to take over
_log = logging.getLogger("gunicorn.error")


@dataclass(frozen=True)
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
        if self.path is not None:
            partial = self.path.with_name(f"{self.path.name}.{os.getpid()}")
            partial.write_text(json.dumps(sorted(names)))
            partial.replace(self.path)


@contextlib.contextmanager
def reporting_failure() -> Iterator[None]:
    """Leave word of whether a reload failed, for the worker that asked for it."""
    word = _word_of_failure()
    try:
        yield
    except StartError:
        if word:
            word.touch()
        raise
    if word:
        word.unlink(missing_ok=True)


def _word_of_failure() -> Path | None:
    folder = os.environ.get(VARIABLE)
    return Path(folder) / "reload-failed" if folder else None


def reread(settings: Settings, served: Catalogue) -> Flask:
    """The application for the shelf as it is now, after `served`.

    To be called in the master. Raises StartError where there is nothing to serve.
    """
    unloaded = Unloaded.of_this_service().read()

    def skip(model: Model) -> bool:
        return model.card.name in unloaded

    broken = _run_each(new_in(load_catalogue(settings, skip), served))
    return create_app(settings, load_catalogue(settings, skip, broken))


def new_in(shelf: Iterable[Model], served: Iterable[Model]) -> list[Model]:
    """The models of a shelf that are not known to be served already, as they are now."""
    known = {model.folder: model.card for model in served if model.vouched_for}
    return [model for model in shelf if known.get(model.folder) != model.card]


def _run_each(models: list[Model]) -> dict[Path, str]:
    """What is wrong with those of `models` that cannot be run, by their folders.

    Tried in a process that ends with the attempt: a session in the master would be in every worker.
    """
    if not models:
        return {}
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        logging.disable()  # the master says it, once
        found = {str(m.folder): f"{m.folder}: ended the process that tried it" for m in models}
        try:
            for model in models:
                found[str(model.folder)] = model.problem
        finally:
            os.write(theirs, json.dumps(found).encode())
            os._exit(0)
    os.close(theirs)
    with open(ours, encoding="utf-8") as pipe:  # noqa: PTH123  (a descriptor, not a path)
        text = pipe.read()
    with contextlib.suppress(ChildProcessError):  # gunicorn may have seen it end
        os.waitpid(child, 0)
    found = (
        json.loads(text)
        if text
        else {str(m.folder): f"{m.folder}: cannot be tried" for m in models}
    )
    return {Path(folder): problem for folder, problem in found.items() if problem}


def replace_workers(app: Flask) -> None:
    """Have the master read the shelf again; return when this worker's successors have taken over.

    Raises RequestError 501 under another server than ours, 503 where it takes too long.
    """
    worker = app.extensions.get("worker")
    if worker is None:
        message = "This server cannot replace its workers; restart it to read the shelf again."
        raise RequestError(501, "cannot_reload", message)
    siblings = _children(worker.ppid) - {os.getpid()}
    os.kill(worker.ppid, signal.SIGHUP)
    deadline = time.monotonic() + _PATIENCE
    if not _wait(lambda: not worker.alive, deadline):
        message = "The workers were not replaced in time; the log says why."
        raise RequestError(503, "not_reloaded", message)
    word = _word_of_failure()
    if word and word.exists():
        message = "The service could not be read again; the log says why. The models stay."
        raise RequestError(503, "not_reloaded", message)
    worker.replaced = True  # so that it takes up no caller's next request, with its old models
    # The others that answer for the old shelf: gone, or at their last request.
    _wait(lambda: not siblings & _children(worker.ppid), min(deadline, time.monotonic() + 2))


def _wait(done: Callable[[], bool], deadline: float) -> bool:
    while not (over := done()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return over


def _children(pid: int) -> set[int]:
    """The processes of a parent; none where the system does not tell."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return set()
    return {int(child) for child in text.split()}
