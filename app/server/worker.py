"""A gunicorn worker that waits for no client: it reads many requests at once and answers one.

gunicorn's sync worker gives itself to one client from the first byte to the last, however slowly
they come. This one answers a request when all of it has come, as if a proxy stood before it.
Connections that nobody has taken up wait in the kernel, where every worker finds them; of those
beyond `max_waiting` the oldest are refused at once, so that the others are answered in time.
"""

import contextlib
import errno
import os
import select
import signal
import socket
import time
from collections import deque
from typing import Any

from gunicorn.workers.base import Worker

from app.errors import RequestError, http_bytes, too_large
from app.memory import return_freed_memory
from app.parent_process import signal_when_parent_ends
from app.server import gateway
from app.server.budget import Budget
from app.server.connection import SILENT, Connection, State
from app.server.refusals import INCOMPLETE, TOO_BUSY, TOO_CHOPPED, TOO_SLOW
from app.server.watch import Watch
from app.settings import Settings

LINGER = 5.0  # seconds for which the rest of a refused upload is taken,
LINGER_REQUESTS = 4  # at most as many times the largest request
HEARTBEAT = 0.5  # seconds between two signs of life for the master
LEAVING = 0.5  # seconds that a stopping worker gives to clients that have said nothing
ORPHANED = 0.6  # seconds that a worker outlives the master,
ORPHANED_ANSWERS = 0.3  # of them for answers to requests that have come
BUFFERED_REQUESTS = 4  # as many of the largest requests are held in memory at once
_KEPT = 32 * 1024 * 1024  # bytes of requests that were freed before memory is given back
_RECEIVED = 256 * 1024  # bytes at a time
_UNSENT = 128 * 1024  # bytes of an answer that the kernel holds unsent, outside of the budget
_REFUSALS = 64  # at most, before a request is answered


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
        from app.telemetry.metrics import count_refusal  # not before the fork: see app/__init__.py

        self.count_refusal = count_refusal
        self.settings: Settings = self.app.settings
        (self.listener,) = self.sockets
        self.listener.setblocking(False)
        self.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        self.server_address = self.listener.getsockname()
        self.waiting: deque[Connection] = deque()
        self.watch = Watch()
        self.poller = self.watch.poller
        self.poller.register(self.listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        self.poller.register(self.PIPE[0], select.EPOLLIN)  # wakes the worker for a signal
        self.patience, self.looked, self.next_sign = 1.0, time.monotonic(), 0.0
        self.budget = Budget(BUFFERED_REQUESTS * self.settings.max_request_bytes)
        self.crammed = False  # no room can be made before a waiting request is answered
        while self.alive:
            self._turn()
        self._leave()

    def _turn(self) -> None:
        """See who has something to say, and answer one request."""
        if time.monotonic() >= self.next_sign:
            self.notify()
            self.next_sign = time.monotonic() + HEARTBEAT
        self.crammed = called = False
        for number, _ in self.poller.poll(0 if self.waiting else self.patience):
            if connection := self.watch.connections.get(number):
                self._attend(connection)
            elif number == self.PIPE[0]:
                os.read(number, 4096)
            else:
                called = True
        if called and self.alive:
            self._refuse_the_oldest()
            if connection := self._accept():  # one at a time: others may be idle
                self._read(connection)
        if len(self.waiting) > 1:
            # Those in the kernel wait too, and one that is refused here has waited longest.
            room = max(1, self.settings.max_waiting - self.listener.get_backlog())
            while len(self.waiting) > room:
                self._refuse(self.waiting.popleft(), TOO_BUSY)
        if self.waiting:
            self._answer(self.waiting.popleft())
        if self.budget.freed > _KEPT:
            self.budget.freed = 0
            return_freed_memory()
        if time.monotonic() > self.looked + self.patience:
            self._end_the_late()

    def _leave(self) -> None:
        """Answer everybody who is connected, then stop."""
        self.poller.unregister(self.listener)
        while not (self.replaced or self.orphaned) and (connection := self._accept()):
            self._read(connection)
        now, leaving = time.monotonic(), self._seconds_to_leave()
        for connection in self.watch.connections.values():
            seconds = LEAVING if connection.state in SILENT else leaving
            connection.deadline = min(connection.deadline, now + seconds)
        self.patience = 0.1
        while (self.waiting or self.watch.connections) and time.monotonic() < now + leaving:
            self._turn()

    def _seconds_to_leave(self) -> float:
        if self.orphaned:
            return ORPHANED_ANSWERS
        # A second before the master loses its patience, so that it is we who close the connections.
        patience = self.settings.graceful_timeout
        return max(patience - 1, patience / 2)

    def _accept(self) -> Connection | None:
        try:
            sock, address = self.listener.accept()
        except BlockingIOError:  # another worker was faster
            return None
        except OSError as error:
            self.log.warning("a connection was lost: %s", error.strerror)
            if error.errno == errno.EMFILE and self.watch.connections:
                self._end(self.watch.longest_idle())
            return None
        sock.setblocking(False)
        connection = Connection(sock, address, self.settings.max_request_bytes, self.budget)
        connection.enter(State.NEW, self.settings.read_timeout)
        return connection

    def _refuse_the_oldest(self) -> None:
        """Of the requests that wait in the kernel, until few enough connections are left there."""
        for _ in range(_REFUSALS):
            if self.listener.get_backlog() <= self.settings.max_waiting:
                return
            if connection := self._accept():
                self._read(connection)
                if connection.state is State.WAITING:
                    self._refuse(self.waiting.pop(), TOO_BUSY)

    def _attend(self, connection: Connection) -> None:
        """Its socket can be read from, or written to."""
        if connection.state is State.READING or connection.state in SILENT:
            self._read(connection)
        elif connection.state is State.WRITING:
            self._write(connection)
        elif connection.state is State.LINGERING:
            most = LINGER_REQUESTS * self.settings.max_request_bytes
            if not self._receive(connection, _RECEIVED) or connection.discarded > most:
                self._close(connection)

    def _receive(self, connection: Connection, most: int) -> bool:
        """Whether the client may send more."""
        try:
            return connection.receive(most)
        except OSError:
            return False

    def _read(self, connection: Connection) -> None:
        """Receive more of a request, as far as the budget has room."""
        if self.budget.room < _RECEIVED and not self.crammed:
            self._make_room()
            if connection.closing:
                return None  # it was the one to make room
        most = min(_RECEIVED, self.budget.room)
        if most <= 0:
            return self._watch(connection, select.EPOLLIN)
        open_ended = self._receive(connection, most)
        if connection.received and connection.state in SILENT:
            connection.enter(State.READING, self.settings.read_timeout)
        return self._judge(connection, open_ended)

    def _judge(self, connection: Connection, open_ended: bool) -> None:
        """Queue a whole request; wait for the rest of another if it is `open_ended`."""
        if connection.complete and connection.too_large:
            large = too_large(self.settings.max_request_mib)
            self._refuse(connection, TOO_CHOPPED if connection.too_chopped else large)
        elif connection.complete:
            connection.state = State.WAITING
            self.waiting.append(connection)
        elif open_ended:
            self._watch(connection, select.EPOLLIN)
        elif connection.received:
            self._refuse(connection, INCOMPLETE)
        else:
            self._close(connection)

    def _make_room(self) -> None:
        """End connections until there is room for what others send."""
        for connection in self.watch.given_up(self.budget):
            if connection.state is State.READING:
                self._refuse(connection, TOO_BUSY)
            else:
                self._close(connection)
        self.crammed = self.budget.room < _RECEIVED

    def _answer(self, connection: Connection) -> None:
        """Have the application answer the request that has come."""
        request = None
        connection.closing, connection.lingers = True, True
        all_taken = connection.all_taken
        try:
            request = gateway.parse(connection, self.cfg)
            connection.closing = self._call(request, connection)
            connection.lingers = not all_taken
        except RequestError as error:
            self.log.warning("Invalid request from ip=%s: %s", connection.address[0], error)
            connection.answer(http_bytes(error, connection.path))
        except Exception as error:
            connection.answer()
            self.handle_error(request, connection, connection.address, error)
        connection.forget_request()
        self._write(connection)

    def _call(self, request: Any, connection: Connection) -> bool:
        """Collect the application's answer. Whether the connection ends with it."""
        response, environ = gateway.prepare(request, connection, self.server_address, self.cfg)
        answer = self.wsgi(environ, response.start_response)
        if not self.alive:  # perhaps since this very request, which had a model loaded
            response.force_close()
        try:
            for part in answer:
                response.write(part)
            response.close()
        finally:
            if hasattr(answer, "close"):
                answer.close()
        return bool(response.should_close())

    def _refuse(self, connection: Connection, error: RequestError) -> None:
        self.count_refusal(error.code)
        connection.closing, connection.lingers = True, not connection.all_taken
        connection.answer(http_bytes(error, connection.path))
        connection.forget_all()
        self._write(connection)

    def _write(self, connection: Connection) -> None:
        """Send the answer, or as much of it as the client takes."""
        try:
            all_sent = connection.flush()
        except OSError:
            return self._close(connection)
        if not all_sent:
            if connection.state is not State.WRITING:
                connection.enter(State.WRITING, self.settings.read_timeout)
            return self._watch(connection, select.EPOLLOUT)
        if not connection.closing:
            return self._go_on(connection)
        if connection.lingers:
            return self._linger(connection)
        return self._close(connection)

    def _go_on(self, connection: Connection) -> None:
        """To the client's next request, of which some may have come already."""
        if connection.received:
            connection.enter(State.READING, self.settings.read_timeout)
            self._judge(connection, open_ended=True)
        else:
            connection.enter(State.IDLE, self.settings.keep_alive)
            self._watch(connection, select.EPOLLIN)

    def _linger(self, connection: Connection) -> None:
        """A system that still sends when the other closes reports a reset, and no answer."""
        connection.enter(State.LINGERING, LINGER)
        connection.forget_all()
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            return self._close(connection)
        return self._watch(connection, select.EPOLLIN)

    def _watch(self, connection: Connection, events: int) -> None:
        if not connection.polled and len(self.watch.connections) >= self.cfg.worker_connections:
            self._end(self.watch.longest_idle())
        self.watch.look(connection, events)

    def _end_the_late(self) -> None:
        """Those whose time is over."""
        self.looked = time.monotonic()
        for connection in self.watch.late(self.looked):
            self._end(connection)

    def _end(self, connection: Connection) -> None:
        if connection.state is State.READING:
            self._refuse(connection, TOO_SLOW)
        elif connection.state is not State.WAITING:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        self.watch.forget(connection)
        connection.close()
