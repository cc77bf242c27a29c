"""A stop and a reload that lose nobody: every connection that was made is answered.

The kernel completes connections before a worker accepts them. Closing the port resets those that
wait, so the port first stops to take new ones, the workers answer what waits, and then it closes.
"""

import contextlib
import signal
import socket
import sys
import time
from typing import Any

from gunicorn.arbiter import Arbiter

# Linux; Python's socket module lacks the names. Both drop packets that may have come from afar.
_IP_MINTTL = 21
_IPV6_MINHOPCOUNT = 73
MOST_PATIENCE = 10.0  # seconds that the workers of before a reload wait for the new ones
_FARTHER_THAN_ANYTHING = 255  # systems send with 64 or 128


class GracefulArbiter(Arbiter):
    """gunicorn's master, which on SIGTERM shuts the door before it sends the workers home."""

    def spawn_worker(self) -> Any:
        # A new worker has the master's signal handlers until it installs its own, and would
        # forget a SIGTERM that comes before: it waits, until heed_sigterm.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            return super().spawn_worker()
        finally:
            heed_sigterm()

    def manage_workers(self) -> None:
        # On SIGHUP there are more workers than wanted: the old ones go when the new ones answer.
        if len(self.WORKERS) > self.num_workers:
            newest = sorted(self.WORKERS.values(), key=lambda worker: -worker.age)
            deadline = time.monotonic() + MOST_PATIENCE
            while not all(worker.answers for worker in newest[: self.num_workers]):
                if time.monotonic() > deadline:
                    break
                time.sleep(0.01)
        super().manage_workers()

    def stop(self, graceful: bool = True) -> None:
        if graceful:
            for listener in self.LISTENERS:
                refuse_new_connections(listener.sock)
        super().stop(graceful)


def heed_sigterm() -> None:
    """Let through the SIGTERM that waits, and those to come."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def refuse_new_connections(listener: socket.socket) -> None:
    """Have the kernel ignore further connections to `listener`, a listening TCP socket.

    Those already made stay. A caller who tries again after a second finds the port closed. Where
    the system cannot do it, the few who connect in the last moment are reset.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT, _FARTHER_THAN_ANYTHING)
        # An IPv6 socket may take IPv4 connections as well.
        listener.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, _FARTHER_THAN_ANYTHING)
