"""gunicorn's threaded worker, for systems without epoll, such as macOS.

It does less than app/server/worker.py, as docs/operations.md says. This module adds what the master
and the application need from every worker.
"""

import socket
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from app.server.port import hear
from app.server.worker import PollingWorker

THREADS = 4  # requests at the same time, slow ones included


class ThreadedWorker(ThreadWorker):
    """A worker of one process and THREADS threads."""

    replaced = False
    answers = PollingWorker.answers
    waiting = ()  # gunicorn does not tell how many requests wait for a thread

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.unborn = self.tmp.last_update()

    @property
    def listener(self) -> socket.socket:
        return self.sockets[0]  # type: ignore[no-any-return]

    def set_accept_enabled(self, enabled: bool) -> None:
        """Accept the existing connections before a stopping worker accepts no more."""
        if not enabled and not self.alive and not self.replaced:
            # accept() takes one connection; there are no more when the number stays the same.
            before = -1
            while before < self.nr_conns:
                before = self.nr_conns
                self.accept(self.listener)
        super().set_accept_enabled(enabled)

    def enqueue_req(self, conn: Any) -> None:
        """Give a connection to a thread: a new one, or one with a further request."""
        hear(conn.sock)
        super().enqueue_req(conn)
