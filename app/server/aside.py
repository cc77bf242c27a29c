"""Answers that wait for a disk: threads give them, so that other requests do not wait as well.

A connection that is answered here leaves the worker's loop. It is closed after the answer.
"""

import contextlib
import logging
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore

from app.server.connection import Connection

_log = logging.getLogger("gunicorn.error")
_THREADS = 2
_MOST = 64  # connections at once


class Aside:
    """The threads of a worker. They start with the first answer, and end with the process."""

    def __init__(self, seconds: float) -> None:
        """Give clients `seconds` to take their answers."""
        self._seconds = seconds
        self._room = BoundedSemaphore(_MOST)
        self._pool: ThreadPoolExecutor | None = None

    def take(self, connection: Connection, answer: Callable[[], bytes]) -> bool:
        """Have a thread send what `answer` returns. Return False if too many wait already.

        An error of `answer` is logged, and the connection is closed.
        """
        if not self._room.acquire(blocking=False):
            return False
        self._pool = self._pool or ThreadPoolExecutor(_THREADS, "aside")
        connection.forget_all()  # the budget belongs to the loop
        connection.given_away = True
        self._pool.submit(self._send, connection.sock, answer)
        return True

    def _send(self, sock: socket.socket, answer: Callable[[], bytes]) -> None:
        try:
            try:
                content = answer()
            except Exception:
                _log.exception("an answer could not be given")
                return
            with contextlib.suppress(OSError):  # the client is gone
                sock.settimeout(self._seconds)
                sock.sendall(content)
                sock.shutdown(socket.SHUT_WR)
        finally:
            self._room.release()
            sock.close()
