"""A gunicorn worker that waits for no client: it reads many requests at once and answers one.

gunicorn's sync worker serves one client from the first byte to the last, however slow it is. This
worker answers a request when it has arrived completely, as if a proxy stood before it: see
app/server/loop.py. This module has its start and its end.
"""

import contextlib
import os
import signal
import socket
import time
from collections import deque
from typing import Any

from gunicorn.workers.base import Worker

from app.catalogue import network
from app.parent_process import signal_when_parent_ends
from app.server.connection import Connection
from app.server.loop import Loop

LEAVING = 0.5  # seconds that a stopping worker waits for clients that have sent nothing
# A worker outlives the master by the first number of seconds, and has the second one for answers.
ORPHANED = 0.6
ORPHANED_ANSWERS = 0.3


class PollingWorker(Worker):
    """A worker of one process and one thread."""

    replaced = False  # whether a new worker accepts the waiting connections: see reload.py
    orphaned = False  # whether the master has ended

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.unborn = self.tmp.last_update()

    @property
    def answers(self) -> bool:
        """Return whether the worker has begun to accept requests. Called in the master."""
        return bool(self.tmp.last_update() != self.unborn)

    @property
    def listener(self) -> Any:
        """Return the listening socket, in gunicorn's wrapper."""
        return self.sockets[0]

    @property
    def waiting(self) -> deque[Connection]:
        """Return the complete requests that wait for this worker."""
        return self.loop.waiting

    def closes(self, connection: Connection) -> bool:
        """Return whether `connection` is closed after the answer to the request that it gave up.

        A client that has sent more already stays, since it waits for more answers.
        """
        # The current request may have stopped the worker, by loading a model.
        return not connection.received and (not self.alive or self.loop.overburdened)

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
        signal.setitimer(signal.ITIMER_REAL, ORPHANED)  # SIGALRM then ends the process
        for listener in self.sockets:
            with contextlib.suppress(OSError):  # another worker has closed it
                listener.shutdown(socket.SHUT_RDWR)

    def run(self) -> None:
        self.server_address = self.listener.getsockname()
        # Not before the fork: see app/__init__.py.
        from app.server.direct import Direct

        self.direct = Direct(self)
        self.loop = Loop(self)
        network.after_run = self.loop.give_sign
        while self.alive:
            self.loop.turn()
        self._leave()

    def _leave(self) -> None:
        """Answer all connected clients, then stop."""
        began, seconds = time.monotonic(), self._seconds_to_leave()
        take_up = not (self.replaced or self.orphaned)
        self.loop.begin_to_leave(seconds, LEAVING, take_up=take_up)
        while not self.loop.empty and time.monotonic() < began + seconds:
            self.loop.turn()

    def _seconds_to_leave(self) -> float:
        if self.orphaned:
            return ORPHANED_ANSWERS
        # A second less than the master waits, so that the worker closes its connections itself.
        grace: int = self.app.settings.graceful_timeout
        return max(grace - 1, grace / 2)
