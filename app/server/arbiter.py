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
from gunicorn.errors import HaltServer

from app.runtime import TAKEOVER_SECONDS
from app.settings import StartError

# Linux; Python's socket module lacks the names. Both drop packets that may have come from afar.
_IP_MINTTL = 21
_IPV6_MINHOPCOUNT = 73
_FARTHER_THAN_ANYTHING = 255  # systems send with 64 or 128

_LONGEST_PAUSE = 60.0  # seconds until a worker that could not start is tried again
_BETWEEN_CROWDED_RELOADS = 5.0  # seconds, while two sets of workers still leave


class GracefulArbiter(Arbiter):
    """gunicorn's master, which owns what the workers share and gives up nothing that works.

    On SIGTERM it shuts the door before it sends the workers home. A reload that fails leaves the
    workers as they are. Once the service has answered, a worker that cannot start is tried again.
    """

    def __init__(self, app: Any) -> None:
        self.reload_wanted = False
        self.last_reload = 0.0
        self.pause = 0.0  # after a worker that could not start
        self.next_spawn = 0.0
        super().__init__(app)

    def handle_hup(self) -> None:
        # Not yet: many signals ask for one reload.
        self.reload_wanted = True

    def manage_workers(self) -> None:
        if self.app.mended():
            self.reload_wanted = True
        crowded = len(self.WORKERS) > 2 * self.num_workers
        if self.reload_wanted and not (
            crowded and time.monotonic() < self.last_reload + _BETWEEN_CROWDED_RELOADS
        ):
            self.reload()
        super().manage_workers()  # which sends home the oldest of too many
        if self.pause and all(worker.answers for worker in self.WORKERS.values()):
            self.pause = 0.0

    def reload(self) -> None:
        """Replace the workers by such as have the shelf as it is now; the settings stay."""
        self.reload_wanted = False
        number = self.app.progress.begin()
        renewed = self._renew()
        self.last_reload = time.monotonic()
        self.app.progress.end(number, renewed)

    def _renew(self) -> bool:
        """Whether new workers have taken over; otherwise all is as it was."""
        try:
            self.app.reload()
        except StartError as error:
            self.log.error("the models stay as they were: %s", error)
            return False
        self.app.must_answer = True
        new = [pid for _ in range(self.num_workers) if (pid := self.spawn_worker())]
        renewed = len(new) == self.num_workers and self._wait_for(new)
        self.app.must_answer = False
        if renewed:
            self.app.report()
            return True
        self.log.error("the models stay as they were: new workers could not start")
        self.app.restore()
        self._send_home(new)
        return False

    def _wait_for(self, new: list[int]) -> bool:
        """Whether all workers of these process ids have begun to take requests, in time."""
        deadline = time.monotonic() + TAKEOVER_SECONDS
        while time.monotonic() < deadline:
            self.reap_workers()
            workers = [self.WORKERS.get(pid) for pid in new]
            if not all(workers):
                return False
            if all(worker.answers for worker in workers):
                return True
            time.sleep(0.01)
        return False

    def _send_home(self, pids: list[int]) -> None:
        """End these workers, and return when they are gone."""
        deadline = time.monotonic() + self.cfg.graceful_timeout
        sent = signal.SIGTERM
        while left := [pid for pid in pids if pid in self.WORKERS]:
            for pid in left:
                self.kill_worker(pid, sent)
            time.sleep(0.1)
            self.reap_workers()
            if time.monotonic() > deadline:
                sent = signal.SIGKILL

    def spawn_workers(self) -> None:
        if time.monotonic() >= self.next_spawn:
            super().spawn_workers()

    def spawn_worker(self) -> Any:
        # A new worker has the master's signal handlers until it installs its own, and would
        # forget a SIGTERM that comes before: it waits, until heed_sigterm.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            return super().spawn_worker()
        except OSError as error:  # no process or no file to be had
            self._try_later(str(error))
            return None
        finally:
            heed_sigterm()

    def reap_workers(self) -> None:
        if any(worker.answers for worker in self.WORKERS.values()):
            self.app.served, self.app.must_answer = True, False
        while True:
            try:
                super().reap_workers()
                return
            except HaltServer as halt:
                if not self.app.served:
                    raise
                self._try_later(halt.reason)

    def _try_later(self, reason: str) -> None:
        self.pause = min(2 * self.pause, _LONGEST_PAUSE) or 1.0
        self.next_spawn = time.monotonic() + self.pause
        self.log.error("a worker could not start (%s): next try in %g s", reason, self.pause)

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
