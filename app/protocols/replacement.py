"""A worker asks the master for new workers, and leaves when they have taken over."""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flask import Flask

from app.errors import RequestError
from app.runtime import TAKEOVER_SECONDS, Progress, Unloaded

# The master tries the new models before it starts the new workers: that takes time as well.
_RELOAD_SECONDS = TAKEOVER_SECONDS + 10


@contextlib.contextmanager
def changing(app: Flask, unloaded: Unloaded) -> Iterator[None]:
    """Have nobody else load or unload models meanwhile. Raises RequestError 503 after a while.

    The system frees the lock of a process that ends.
    """
    worker = app.extensions.get("worker")
    if unloaded.path is None or worker is None:
        yield  # replace_workers will refuse
        return
    with unloaded.path.with_name("unloaded.lock").open("w") as file:

        def locked() -> bool:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            return False

        if not _wait(worker, locked, time.monotonic() + _RELOAD_SECONDS):
            message = "Other models are being loaded or unloaded. Try again."
            raise RequestError(503, "not_reloaded", message)
        yield


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
    deadline = time.monotonic() + _RELOAD_SECONDS
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
