"""The event loop of a worker: it reads from many connections and answers one request at a time.

Connections that no worker has accepted wait in the kernel, where every worker finds them. If more
than `max_waiting` wait, the oldest are refused at once, so that the others are answered in time.
"""

import errno
import os
import select
import socket
import time
from collections import deque
from typing import Any

from app.errors import TOO_BUSY, TOO_SLOW, RequestError, http_bytes, too_large
from app.memory import return_freed_memory
from app.server import gateway
from app.server.balance import Balance
from app.server.budget import Budget
from app.server.connection import SILENT, Connection, State
from app.server.port import hear
from app.server.refusals import INCOMPLETE, TOO_CHOPPED
from app.server.watch import Watch
from app.settings import Settings

# The rest of a refused upload is discarded for so many seconds, and up to so many times the largest
# request.
LINGER = 5.0
LINGER_REQUESTS = 4
# Seconds between two signs of life for the master, but not more than a tenth of its patience.
HEARTBEAT = 0.5
BUFFERED_REQUESTS = 4  # the memory for requests, in requests of the largest size
_KEPT = 32 * 1024 * 1024  # bytes of freed requests after which memory is returned to the system
_RECEIVED = 256 * 1024  # bytes received at once
_UNSENT = 128 * 1024  # unsent bytes of an answer in the kernel, which the budget does not count
_REFUSALS = 64  # the most refusals before the next request is answered
_AT_A_TIME = 8  # refusals after which the kernel is asked again how many connections wait


class Loop:
    """The connections of a worker. Each turn polls them and answers one request.

    `worker` is gunicorn's worker, with its listening socket, its log and its application.
    """

    def __init__(self, worker: Any) -> None:
        from app.telemetry.metrics import count_refusal  # not before the fork: see app/__init__.py

        self.count_refusal = count_refusal
        self.worker = worker
        self.settings: Settings = worker.app.settings
        self.listener: Any = worker.listener  # gunicorn's, which knows its backlog
        self.listener.setblocking(False)
        self.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        self.waiting: deque[Connection] = deque()
        self.watch = Watch()
        self.poller = self.watch.poller
        self.poller.register(self.listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        self.poller.register(worker.PIPE[0], select.EPOLLIN)  # wakes the worker for a signal
        self.beat = min(HEARTBEAT, self.settings.timeout / 10)
        # An idle worker also gives its signs of life in time.
        self.poll_timeout = min(1.0, 2 * self.beat)
        self.looked, self.next_sign = time.monotonic(), 0.0
        self.budget = Budget(BUFFERED_REQUESTS * self.settings.max_request_bytes)
        self.crammed = False  # whether the budget is full of complete requests
        self.balance: Balance = worker.app.balance
        self.pressed = False  # whether events came while a request was answered

    def turn(self) -> None:
        """Poll the connections once, and answer one request."""
        self.give_sign()
        self.crammed = called = False
        for number, _ in self._poll():
            if connection := self.watch.connections.get(number):
                self._attend(connection)
            elif number == self.worker.PIPE[0]:
                os.read(number, 4096)
            else:
                called = True
        if called and self.worker.alive:
            self._refuse_the_oldest()
            left_to_another = self.waiting and self.balance.idle_one() is not None
            # Accept one connection at a time, since other workers may be idle.
            if not left_to_another and (connection := self._accept()):
                self._read(connection)
        if len(self.waiting) > 1:
            # The connections in the kernel count as well. The oldest of all is here.
            room = max(1, self.settings.max_waiting - self.listener.get_backlog())
            while len(self.waiting) > room:
                self._refuse(self.waiting.popleft(), TOO_BUSY)
        if self.waiting:
            self._answer(self.waiting.popleft())
        if self.budget.freed > _KEPT:
            self.budget.freed = 0
            return_freed_memory()
        if time.monotonic() > self.looked + self.poll_timeout:
            self._end_the_late()

    def give_sign(self) -> None:
        """Give the master a sign of life, if the last one is some time ago."""
        if time.monotonic() >= self.next_sign:
            self.worker.notify()
            self.next_sign = time.monotonic() + self.beat

    def _answer(self, connection: Connection) -> None:
        gateway.answer(connection, self.worker)
        if connection.given_away:
            self.watch.forget(connection)
            return
        connection.forget_request()
        self._write(connection)

    def _poll(self) -> list[tuple[int, int]]:
        """Return the connections with events. If no request waits, wait for an event."""
        found = self.poller.poll(0)
        self.pressed = bool(found)
        if found or self.waiting:
            return found
        number, held = self.worker.age, len(self.watch.connections)
        self.balance.note(number, idle=self.worker.alive, held=held)
        try:
            return self.poller.poll(self.poll_timeout)
        finally:
            self.balance.note(number, idle=False, held=held)

    @property
    def overburdened(self) -> bool:
        """Return whether a client should go to an idle worker, which has fewer connections."""
        if not (self.pressed or self.waiting):
            return False
        held = self.balance.idle_one()
        return held is not None and held + 2 <= len(self.watch.connections)

    def begin_to_leave(self, seconds: float, silent: float, *, take_up: bool) -> None:
        """Accept no more connections, or with `take_up` those that exist already.

        Each connection has `seconds` for its request, or `silent` seconds if it has sent nothing.
        """
        self.poller.unregister(self.listener)
        while take_up and (connection := self._accept()):
            self._read(connection)
        now = time.monotonic()
        for connection in self.watch.connections.values():
            hear(connection.sock)
            most = silent if connection.state in SILENT else seconds
            connection.deadline = min(connection.deadline, now + most)
        self.poll_timeout = 0.1

    @property
    def empty(self) -> bool:
        """Return whether no connection is left."""
        return not (self.waiting or self.watch.connections)

    def _accept(self) -> Connection | None:
        try:
            sock, address = self.listener.accept()
        except BlockingIOError:  # another worker was faster
            return None
        except OSError as error:
            self.worker.log.warning("a connection was lost: %s", error.strerror)
            if error.errno == errno.EMFILE and self.watch.connections:
                self._end(self.watch.longest_idle())
            return None
        sock.setblocking(False)
        connection = Connection(sock, address, self.settings.max_request_bytes, self.budget)
        connection.enter(State.NEW, self.settings.read_timeout)
        return connection

    def _refuse_the_oldest(self) -> None:
        """Refuse the oldest connections in the kernel until few enough wait there.

        Their number is asked for rarely: the kernel then locks the listening socket, and makes the
        connections that came meanwhile, which takes longer than a refusal.
        """
        for _ in range(_REFUSALS // _AT_A_TIME):
            excess = self.listener.get_backlog() - self.settings.max_waiting
            if excess <= 0:
                return
            for _ in range(min(excess, _AT_A_TIME)):
                if connection := self._accept():
                    self._read(connection)
                    if connection.state is State.WAITING:
                        self._refuse(self.waiting.pop(), TOO_BUSY)

    def _attend(self, connection: Connection) -> None:
        """Read from a connection, or write to it, as its state requires."""
        if connection.state is State.READING or connection.state in SILENT:
            self._read(connection)
        elif connection.state is State.WRITING:
            self._write(connection)
        elif connection.state is State.LINGERING:
            most = LINGER_REQUESTS * self.settings.max_request_bytes
            if not self._receive(connection, _RECEIVED) or connection.discarded > most:
                self._close(connection)

    def _receive(self, connection: Connection, most: int) -> bool:
        """Receive data. Return whether the client may send more."""
        try:
            return connection.receive(most)
        except OSError:
            return False

    def _read(self, connection: Connection) -> None:
        """Receive more of a request, as far as the budget has room."""
        if self.budget.room < _RECEIVED and not self.crammed:
            self._make_room()
            if connection.closing:
                return None  # this connection was closed to make room
        most = min(_RECEIVED, self.budget.room)
        if most <= 0:
            return self._watch(connection, select.EPOLLIN)
        open_ended = self._receive(connection, most)
        if connection.received and connection.state in SILENT:
            connection.enter(State.READING, self.settings.read_timeout)
        return self._judge(connection, open_ended)

    def _judge(self, connection: Connection, open_ended: bool) -> None:
        """Queue a complete request; wait for the rest if the request is `open_ended`."""
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
        """Close connections until the budget has room."""
        for connection in self.watch.given_up(self.budget):
            if connection.state is State.READING:
                self._refuse(connection, TOO_BUSY)
            else:
                self._close(connection)
        self.crammed = self.budget.room < _RECEIVED

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
        """Begin the client's next request, of which a part may have arrived already."""
        if connection.received:
            connection.enter(State.READING, self.settings.read_timeout)
            self._judge(connection, open_ended=True)
        else:
            connection.enter(State.IDLE, self.settings.keep_alive)
            self._watch(connection, select.EPOLLIN)

    def _linger(self, connection: Connection) -> None:
        """Half-close and drain, so that a client that still uploads gets its answer."""
        connection.enter(State.LINGERING, LINGER)
        connection.forget_all()
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            return self._close(connection)
        return self._watch(connection, select.EPOLLIN)

    def _watch(self, connection: Connection, events: int) -> None:
        if (
            not connection.polled
            and len(self.watch.connections) >= self.worker.cfg.worker_connections
        ):
            self._end(self.watch.longest_idle())
        self.watch.look(connection, events)

    def _end_the_late(self) -> None:
        """Close the connections whose deadline has passed."""
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
