"""The writer of a process: one thread that has the store of votes, so that no answer waits for it.

Answers leave their predictions in a queue that has a limit in bytes. What must be known before an
answer goes out, such as that a vote is stored, is a job that the thread does next.
"""

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from functools import partial
from typing import Any, TypeVar

from app.errors import RequestError
from models.votes import (
    Prediction,
    Store,
    VotesError,
    close_store,
    delete_expired,
    delete_oldest_waiting,
    forget_deleted,
    keep_predictions,
    open_store,
    reopened,
)

T = TypeVar("T")

MOST_WAITING_BYTES = 16 * 1024 * 1024  # pictures in the queue of a process
MOST_KEPT_BYTES = 1024 * 1024 * 1024  # pictures in the store that wait for a vote
_OVERHEAD = 200  # bytes of a prediction besides its picture
_PAUSE = 0.05  # seconds in which predictions gather, to be written together
_BATCH = 500  # predictions in one transaction
_PATIENCE = 3.0  # seconds that a request waits for a job, and then for the end of its commit
_FAREWELL = 8.0  # seconds that a process which ends waits for its writer; SQLite waits for 5
_STUCK = 1.0  # seconds after which a job that is not done makes further ones fail at once
_RETRY = 1.0  # seconds between two attempts to write
_LOG_INTERVAL = 60.0  # seconds between two log lines about the same trouble
_SWEEP = 60.0  # seconds between two deletions of what has expired
_log = logging.getLogger("gunicorn.error")


class _Job:
    """Something to be done with the store, and whether its caller still waits for it."""

    def __init__(self, run: Callable[[Store], Any]) -> None:
        self.run = run
        self.done: Future[Any] = Future()
        self.given_up = False
        self.committing = False
        self._guard = threading.Lock()

    def give_up(self) -> bool:
        """Return whether it is certain that nothing has been and will be written."""
        with self._guard:
            self.given_up = not self.committing
            return self.given_up

    def before_commit(self) -> None:
        """Raise VotesError if the caller was told that nothing is written."""
        with self._guard:
            if self.given_up:
                raise VotesError(f"it took more than {_PATIENCE:g} seconds, and was undone")
            self.committing = True


class Writer:
    """The queue of a process, and the thread that empties it. It starts with its first use."""

    def __init__(self, url: str, wait: int) -> None:
        self._url = url
        self._sweep = min(_SWEEP, max(1.0, wait / 4))
        self._begin()

    def _begin(self) -> None:
        """Begin anew: a forked process has neither the thread nor what was queued."""
        self._pid = os.getpid()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._queue: deque[Prediction] = deque()
        self._jobs: deque[_Job] = deque()
        self._waiting = 0  # bytes in the queue
        self._written = 0  # bytes written since the last sweep
        self._unforgotten = False  # whether SQLite's log file may hold what was deleted
        self._largest = 1  # bytes of the largest prediction so far
        self._wake = threading.Event()
        self._urgent = threading.Event()
        self._busy_since = 0.0  # when the running job began, or 0
        self._stopping = False
        self._next_word = 0.0
        self._failing = False
        self._store: Store | None = None

    def put(self, prediction: Prediction) -> bool:
        """Queue a prediction. Return False, without waiting, if the queue is full."""
        self.start()
        size = prediction.pixels.nbytes + _OVERHEAD
        with self._guard:
            if self._waiting + size > MOST_WAITING_BYTES:
                return False
            self._waiting += size
            self._largest = max(self._largest, size)
        self._queue.append(prediction)
        if not self._wake.is_set():
            self._wake.set()
        return True

    def do(self, job: Callable[[Store], T]) -> T:
        """Return the result of `job`, after all queued predictions are written.

        Raises what it raises, but RequestError 503 for a VotesError and if it takes too long. The
        error says so if something may have been written.
        """
        self.start()
        since = self._busy_since
        if since and time.monotonic() > since + _STUCK:
            raise _unavailable()
        wanted = _Job(job)
        self._jobs.append(wanted)
        self._urgent.set()
        self._wake.set()
        try:
            result: T = self._result(wanted)
            return result
        except TooLate:
            raise _uncertain() from None
        except VotesError as error:
            self._complain(error)
            # A commit of SQLite that fails is undone. PostgreSQL's answer to one may be lost.
            lost = wanted.committing and not self._url.startswith("sqlite")
            raise (_uncertain() if lost else _unavailable()) from error

    def _result(self, job: _Job) -> Any:
        """Return the result of `job`. Raises TooLate if it is still being committed."""
        try:
            return job.done.result(_PATIENCE)
        except TooLate:
            if job.give_up():
                raise VotesError(f"no answer within {_PATIENCE:g} seconds") from None
        return job.done.result(_PATIENCE)

    def do_later(self, job: Callable[[Store], None]) -> Future[None]:
        """Run `job` soon, without waiting for it. Its errors are logged."""
        self.start()

        def logged(store: Store) -> None:
            try:
                job(store)
            except VotesError as error:
                self._complain(error)

        wanted = _Job(logged)
        self._jobs.append(wanted)
        self._wake.set()
        return wanted.done

    def forget(self, store: Store) -> None:
        """Remove what was deleted from SQLite's log file, or try again at the next sweeps.

        Call it in a job.
        """
        self._unforgotten = True
        try:
            self._unforgotten = not forget_deleted(store)
        except VotesError as error:
            self._complain(error)

    def close(self) -> None:
        """Write what is queued, and end the thread. The log says if something is lost."""
        if self._thread is None or self._pid != os.getpid():
            return
        self._stopping = True
        self._urgent.set()
        self._wake.set()
        self._thread.join(_FAREWELL)
        if self._queue:
            _log.error("votes: %d predictions were not stored before the end", len(self._queue))

    def start(self) -> None:
        """Start the thread, which also deletes what has expired."""
        if self._pid != os.getpid():
            self._begin()
        if self._thread is not None and self._thread.is_alive():
            return
        with self._guard:
            if self._thread is None:
                atexit.register(self.close)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="votes", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        swept = 0.0
        while not self._stopping:
            self._wake.wait(_RETRY if self._failing else self._sweep)
            self._wake.clear()
            if not self._stopping:
                self._urgent.wait(_RETRY if self._failing else _PAUSE)
            self._urgent.clear()
            self._write()
            self._do_jobs()
            much = self._written > MOST_KEPT_BYTES // 16
            if much or time.monotonic() > swept + self._sweep:
                swept, self._written = time.monotonic(), 0
                self._attempt(self._delete_old)
        # An answer may have come after the last round had begun.
        self._write()
        self._do_jobs()
        if self._store:
            close_store(self._store)

    def _write(self) -> None:
        """Write the queued predictions. Those that cannot be written stay, until they expire."""
        while self._queue:
            some = [self._queue[place] for place in range(min(_BATCH, len(self._queue)))]
            now = time.time()
            wanted = [one for one in some if one.expires > now]
            if not self._attempt(partial(keep_predictions, predictions=wanted)):
                return
            for _ in some:
                self._queue.popleft()
            size = sum(one.pixels.nbytes + _OVERHEAD for one in some)
            self._written += size
            with self._guard:
                self._waiting -= size

    def _do_jobs(self) -> None:
        while self._jobs:
            job = self._jobs.popleft()
            if job.given_up:
                continue
            self._busy_since = time.monotonic()
            try:
                store = self._open().execution_options(before_commit=job.before_commit)
                job.done.set_result(job.run(store))
            except Exception as error:
                job.done.set_exception(error)
            finally:
                self._busy_since = 0.0

    def _attempt(self, step: Callable[[Store], object]) -> bool:
        """Return whether `step` has succeeded; if not, the log says why."""
        try:
            self._busy_since = time.monotonic()
            step(self._open())
        except VotesError as error:
            self._complain(error)
            return False
        finally:
            self._busy_since = 0.0
        if self._failing:
            self._failing, self._next_word = False, 0.0
            _log.warning("votes are stored again")
        return True

    def _complain(self, error: VotesError) -> None:
        self._failing = True
        if (now := time.monotonic()) >= self._next_word:
            self._next_word = now + _LOG_INTERVAL
            _log.error("votes cannot be stored now: %s", error)

    def _open(self) -> Store:
        if self._store is None:
            self._store = open_store(self._url)
        elif (store := reopened(self._store)) is not self._store:
            _log.warning("votes: the file was removed or replaced; the one that is there is used")
            self._store = store
        return self._store

    def _delete_old(self, store: Store) -> None:
        deleted = delete_expired(store)
        deleted += delete_oldest_waiting(store, MOST_KEPT_BYTES // self._largest)
        if deleted or self._unforgotten:
            self.forget(store)


def _unavailable() -> RequestError:
    message = "Votes cannot be stored or read now, and nothing was changed; the log says why. "
    return RequestError(503, "feedback_unavailable", f"{message}Try again.")


def _uncertain() -> RequestError:
    message = (
        "The store of votes has not confirmed this in time, and it may be stored or not. Send it "
        "again: the same vote twice counts once."
    )
    return RequestError(503, "feedback_unavailable", message)
