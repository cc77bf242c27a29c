"""A gunicorn worker that waits for no client: it reads many requests at once and answers one.

gunicorn's sync worker gives itself to one client from the first byte to the last, however slowly
they come. This one answers a request when all of it has come, as if a proxy stood before it: see
app/server/loop.py. Here stands how it begins and how it ends.
"""

import contextlib
import os
import signal
import socket
import time
from collections import deque
from typing import Any

from gunicorn.workers.base import Worker

from app.parent_process import signal_when_parent_ends
from app.server.connection import Connection
from app.server.loop import Loop

LEAVING = 0.5  # seconds that a stopping worker gives to clients that have said nothing
ORPHANED = 0.6  # seconds that a worker outlives the master,
ORPHANED_ANSWERS = 0.3  # of them for answers to requests that have come


class PatientWorker(Worker):
    """One process, one thread; see the module."""

    replaced = False  # by a worker that takes over those who wait: see app/server/reload.py
    orphaned = False  # the master is gone

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.unborn = self.tmp.last_update()

    @property
    def answers(self) -> bool:
        """Seen from the master: whether the worker has begun to take requests."""
        return bool(self.tmp.last_update() != self.unborn)

    @property
    def listener(self) -> Any:
        """The port's socket, which gunicorn wraps."""
        return self.sockets[0]

    @property
    def waiting(self) -> deque[Connection]:
        """Whole requests that wait for this worker."""
        return self.loop.waiting

    @property
    def closing(self) -> bool:
        """Whether connections end with their answers."""
        # Perhaps since this very request, which had a model loaded.
        return not self.alive or self.loop.overburdened

    def init_signals(self) -> None:
        super().init_signals()
        signal.signal(signal.SIGUSR2, self._look_for_master)
        signal_when_parent_ends(signal.SIGUSR2)
        self._look_for_master()

    def _look_for_master(self, *_: Any) -> None:
        """If the master has ended, free the port at once and end this worker within a second."""
        if os.getppid() == self.ppid:
            return
        self.alive, self.orphaned = False, True
        signal.setitimer(signal.ITIMER_REAL, ORPHANED)  # SIGALRM kills, whatever is being done
        for listener in self.sockets:
            with contextlib.suppress(OSError):  # another worker has done it
                listener.shutdown(socket.SHUT_RDWR)

    def run(self) -> None:
        self.server_address = self.listener.getsockname()
        # Not before the fork: see app/__init__.py.
        from app.server.direct import Direct

        self.direct = Direct(self)
        self.loop = Loop(self)
        while self.alive:
            self.notify()
            self.loop.turn()
        self._leave()

    def _leave(self) -> None:
        """Answer everybody who is connected, then stop."""
        began, seconds = time.monotonic(), self._seconds_to_leave()
        take_up = not (self.replaced or self.orphaned)
        self.loop.begin_to_leave(seconds, LEAVING, take_up=take_up)
        while not self.loop.empty and time.monotonic() < began + seconds:
            self.notify()
            self.loop.turn()

    def _seconds_to_leave(self) -> float:
        if self.orphaned:
            return ORPHANED_ANSWERS
        # A second before the master loses its patience, so that it is we who close the connections.
        patience: int = self.app.settings.graceful_timeout
        return max(patience - 1, patience / 2)
