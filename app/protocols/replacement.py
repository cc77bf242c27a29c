"""The replacement of workers, as seen by the worker that was asked to load a model."""

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

# The master also tries the new models before it starts the new workers.
_RELOAD_SECONDS = TAKEOVER_SECONDS + 10


@contextlib.contextmanager
def changing(app: Flask, unloaded: Unloaded) -> Iterator[None]:
    """Hold the lock for loading and unloading models. Raises RequestError 503 if it stays taken.

    The system releases the lock of a process that ends.
    """
    worker = app.extensions.get("worker")
    # Without a shared folder or our worker there is nothing to lock.
    if unloaded.path is None or worker is None:
        yield  # replace_workers will raise
        return
    with unloaded.path.with_name("unloaded.lock").open("w") as file:

        def locked() -> bool:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            return False

        if not _wait(worker, locked, time.monotonic() + _RELOAD_SECONDS):
            message = "Another request is loading or unloading models. Try again."
            raise RequestError(503, "not_reloaded", message)
        yield


def replace_workers(app: Flask) -> set[int]:
    """Have the master read the model repository again, and wait until new workers have taken over.

    Return the process ids of the other workers that were replaced. Raises RequestError 501 under
    another server, and 503 if the repository cannot be served or the new workers are not ready in
    time. Then nothing has changed.
    """
    worker = app.extensions.get("worker")
    if worker is None:
        message = "This server cannot replace its workers. Restart it to load other models."
        raise RequestError(501, "cannot_reload", message)
    progress: Progress = worker.app.progress
    begun = progress.begun
    # Listed before the signal, since new workers are children of the same master.
    siblings = _children(worker.ppid) - {os.getpid()}
    os.kill(worker.ppid, signal.SIGHUP)
    deadline = time.monotonic() + _RELOAD_SECONDS
    if not _wait(worker, lambda: progress.ended > begun, deadline):
        message = "The workers were not replaced in time. The log says why."
        raise RequestError(503, "not_reloaded", message)
    if not progress.succeeded:
        message = "The models could not be reloaded and stay as they were. The log says why."
        raise RequestError(503, "not_reloaded", message)
    worker.replaced = True  # it accepts no further requests, which its old models would answer
    return siblings


def wait_for_the_end_of(siblings: set[int], app: Flask) -> None:
    """Wait until the replaced workers have ended, for at most two seconds."""
    worker = app.extensions["worker"]
    soon = time.monotonic() + 2
    _wait(worker, lambda: not siblings & _children(worker.ppid), soon)


def _wait(worker: Any, done: Callable[[], bool], deadline: float) -> bool:
    while not (over := done()) and time.monotonic() < deadline:
        worker.notify()  # otherwise the master takes the worker for hanging and ends it
        time.sleep(0.01)
    return over


def _children(pid: int) -> set[int]:
    """Return the process ids of a process's children; none if the system does not tell."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return set()
    return {int(child) for child in text.split()}
