"""gunicorn's own threaded worker, for systems without epoll, such as macOS.

It does less than app/server/worker.py; docs/operations.md says what. Here stands only what the
master and the application ask of any worker.
"""

import socket
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from app.server.worker import PatientWorker

THREADS = 4  # requests in hand at once, slow ones included


class ThreadedWorker(ThreadWorker):
    """One process, THREADS threads."""

    replaced = False
    answers = PatientWorker.answers
    waiting = ()  # for a thread: gunicorn does not tell how many

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.unborn = self.tmp.last_update()

    @property
    def listener(self) -> socket.socket:
        return self.sockets[0]  # type: ignore[no-any-return]

    def set_accept_enabled(self, enabled: bool) -> None:
        """Before a stopping worker accepts no more, it takes those that are connected already."""
        if not enabled and not self.alive and not self.replaced:
            before = -1
            while before < self.nr_conns:
                before = self.nr_conns
                self.accept(self.listener)
        super().set_accept_enabled(enabled)
