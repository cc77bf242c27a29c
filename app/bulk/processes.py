"""A bulk job's processes on this machine."""

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from app.bulk.answers import Order, work_on
from app.bulk.job import Chunk
from app.bulk.runner import Died, Ended
from app.parent_process import end_with_parent
from app.settings import StartError

_ENDING = 5.0  # seconds that a process has to end
_STARTS, _PAUSE = 10, 0.2  # times that the start of a process is tried; seconds between two


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    chunk: int | None = None


class Processes:
    """Processes that each load the model once. A dead one is replaced by a new one.

    They are forked from a process that has no thread and no network, so that they start fast and a
    fork loses nothing. All end with the command, whatever ends it.
    """

    def __init__(self, order: Order, count: int) -> None:
        self._order = order
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["app.bulk.forker", work_on.__module__])
        self._count = count
        self._workers: list[_Worker] = []

    def slots(self) -> int:
        return self._count

    def submit(self, chunk: Chunk) -> None:
        worker = next((one for one in self._workers if one.chunk is None), None) or self._start()
        worker.chunk = chunk.number
        with contextlib.suppress(OSError):  # it is dead: `ended` finds that out
            worker.pipe.send(chunk)

    def ended(self, seconds: float) -> list[Ended]:
        found: list[Ended] = []
        busy = {worker.pipe: worker for worker in self._workers if worker.chunk is not None}
        for pipe in wait(list(busy), seconds):
            assert isinstance(pipe, Connection)
            worker = busy[pipe]
            number, worker.chunk = worker.chunk, None
            assert number is not None
            try:
                answer = pipe.recv()
            except (EOFError, OSError):
                self._workers.remove(worker)
                found.append(Died(number, f"process ended: {_end(worker)}"))
                continue
            if isinstance(answer, str):
                raise StartError(answer)
            found.append(answer)
        return found

    def description(self) -> str:
        return "1 process" if self._count == 1 else f"{self._count} processes"

    def close(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        while self._workers:
            _end(self._workers.pop())

    def _start(self) -> _Worker:
        """Start a process. Raises StartError."""
        for _ in range(_STARTS):
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=_serve, args=(theirs, self._order), daemon=True)
            try:
                with _ctrl_c_later():
                    process.start()
            except (OSError, EOFError):  # the process that forks was killed: a new one does
                time.sleep(_PAUSE)  # a process that is just ending still counts as running
                continue
            finally:
                theirs.close()
            self._workers.append(_Worker(process, ours))
            return self._workers[-1]
        raise StartError("The processes that classify cannot be started. Is memory short?")


def _end(worker: _Worker) -> str:
    """End a process, and return how it ended."""
    worker.pipe.close()
    worker.process.join(_ENDING)
    if worker.process.exitcode is None:
        worker.process.kill()
        worker.process.join()
    code = worker.process.exitcode
    return signal.Signals(-code).name if code < 0 else f"status {code}"


@contextlib.contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Have Ctrl-C wait, and never reach the processes that are started meanwhile.

    A terminal sends it to all of them. They are ended by the command.
    """
    resource_tracker.ensure_running()  # else it would be started below, and let Ctrl-C through
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def _serve(pipe: Connection, order: Order) -> None:
    """Work on the chunks that come through `pipe`, until its other end is closed."""
    end_with_parent(os.getppid())  # the process that forks, which ends with the command
    command = multiprocessing.parent_process()
    if command is None or not command.is_alive():  # it was gone before
        return
    with contextlib.suppress(EOFError, OSError):  # the other end is gone
        while True:
            pipe.send(work_on(order, pipe.recv()))


def cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
