"""gunicorn's master, with a stop and a reload that answer every connection that was made.

The kernel completes connections before a worker accepts them, and closing the port resets those
that wait. So the port first stops taking new connections, the workers answer those that wait, and
then the port closes.
"""

import signal
import time
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from app.runtime import TAKEOVER_SECONDS
from app.server.port import refuse_new_connections
from app.settings import StartError

_LONGEST_PAUSE = 60.0  # seconds until a worker that could not start is tried again
_BETWEEN_CROWDED_RELOADS = 5.0  # seconds between reloads while two older sets of workers leave
_PAUSED = 0.5  # seconds; if a wait takes this much longer than it should, this process was stopped


class GracefulArbiter(Arbiter):
    """gunicorn's master, which keeps what works.

    On SIGTERM it stops new connections before it stops the workers. A reload that fails leaves the
    workers as they are. Once the service has answered, a worker that cannot start is tried again.
    """

    def __init__(self, app: Any) -> None:
        self.reload_wanted = False
        self.last_reload = 0.0
        self.pause = 0.0  # after a worker that could not start
        self.next_spawn = 0.0
        super().__init__(app)

    def handle_hup(self) -> None:
        # The reload follows in manage_workers, so that many signals cause one reload.
        self.reload_wanted = True

    def wait_for_signals(self, timeout: float = 1.0) -> list[int]:
        began = time.monotonic()
        signals: list[int] = super().wait_for_signals(timeout)
        if time.monotonic() > began + timeout + _PAUSED:
            # The workers of a paused container were stopped as well, and could give no sign of
            # life. Each has its full time again.
            for worker in self.WORKERS.values():
                if worker.answers:
                    worker.tmp.notify()
        return signals

    def manage_workers(self) -> None:
        if self.app.mended() or self.app.aliases_changed():
            self.reload_wanted = True
        # Each reload starts a full set of workers beside those that still answer.
        crowded = len(self.WORKERS) > 2 * self.num_workers
        if self.reload_wanted and not (
            crowded and time.monotonic() < self.last_reload + _BETWEEN_CROWDED_RELOADS
        ):
            self.reload()
        super().manage_workers()  # it stops the oldest workers if there are too many
        if self.pause and all(worker.answers for worker in self.WORKERS.values()):
            self.pause = 0.0

    def reload(self) -> None:
        """Replace the workers by new ones with the current model repository. The settings stay."""
        self.reload_wanted = False
        number = self.app.progress.begin()
        renewed = self._renew()
        self.last_reload = time.monotonic()
        self.app.progress.end(number, renewed)

    def _renew(self) -> bool:
        """Start new workers. Return whether they have taken over; if not, nothing has changed."""
        try:
            self.app.reload()
        except StartError as error:
            self.log.error("the models stay as they were: %s", error)
            return False
        # The former workers still run, so new ones may fail: nothing is lost.
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
        """Return whether all `new` workers accept requests within TAKEOVER_SECONDS."""
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
        """Stop these workers and wait until they have ended."""
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
        # A new worker has the master's signal handlers until it installs its own. A SIGTERM in this
        # time would be lost, so it is blocked until heed_sigterm.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            return super().spawn_worker()
        except OSError as error:  # the limit on processes or open files is reached
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
    """Unblock SIGTERM; a blocked one is delivered now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
