"""A gunicorn worker that waits for no client: it reads many requests at once and answers one.

gunicorn's sync worker gives itself to one client from the first byte to the last, however slowly
they come. This one answers a request when all of it has come, as if a proxy stood before it.
Connections that nobody has taken up wait in the kernel, where every worker finds them; of those
beyond `max_waiting` the oldest are refused at once, so that the others are answered in time.
"""

import errno
import os
import select
import socket
import time
from collections import deque
from io import BytesIO
from typing import Any

from gunicorn import http
from gunicorn.http import wsgi
from gunicorn.http.errors import NoMoreData
from gunicorn.workers.base import Worker

from app.connection import MOST_CHUNKS, Connection, State
from app.errors import RequestError, http_bytes, too_large
from app.settings import Settings

KEPT = 5.0  # seconds that a connection stays open between two requests
LINGER = 5.0  # seconds for which the rest of a refused upload is taken,
LINGER_REQUESTS = 4  # at most as many times the largest request
LEAVING = 0.5  # seconds that a stopping worker gives to clients that have said nothing
BUFFERED_REQUESTS = 4  # as many of the largest requests are held in memory at once
_LOOK_EVERY = 1024 * 1024  # bytes received between two looks at how many are held
_REFUSALS = 64  # at most, before a request is answered

_TOO_BUSY = RequestError(
    503, "too_busy", "More requests wait than can be answered soon. Try again."
)
_TOO_SLOW = RequestError(
    408, "too_slow", "The request took too long to come. Send it faster, or smaller."
)
_TOO_CHOPPED = RequestError(
    413,
    "too_many_chunks",
    f"The body comes in more than {MOST_CHUNKS} chunks. Send larger ones.",
    limit=MOST_CHUNKS,
)
_INCOMPLETE = RequestError(
    400, "incomplete_request", "The request ended before all of it had come."
)


class PatientWorker(Worker):
    """One process, one thread; see the module."""

    replaced = False  # by a worker that takes over those who wait: see app/reloading.py

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.unborn = self.tmp.last_update()

    @property
    def answers(self) -> bool:
        """Seen from the master: whether the worker has begun to take requests."""
        return bool(self.tmp.last_update() != self.unborn)

    def run(self) -> None:
        from app.metrics import refuse_outside  # not before the fork: see app/__init__.py

        self.count_refusal = refuse_outside
        self.settings: Settings = self.app.settings
        (self.listener,) = self.sockets
        self.listener.setblocking(False)
        self.server_address = self.listener.getsockname()
        self.waiting: deque[Connection] = deque()
        self.watched: dict[int, Connection] = {}  # by file descriptor
        self.poller = select.epoll()
        self.poller.register(self.listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        self.poller.register(self.PIPE[0], select.EPOLLIN)  # wakes the worker for a signal
        self.patience, self.looked = 1.0, time.monotonic()
        self.unlooked = 0  # bytes received since the last look at how many are held
        while self.alive and self.ppid == os.getppid():
            self._turn()
        self._leave()

    def _turn(self) -> None:
        """See who has something to say, and answer one request."""
        self.notify()
        called = False
        for number, _ in self.poller.poll(0 if self.waiting else self.patience):
            if number in self.watched:
                self._attend(self.watched[number])
            elif number == self.PIPE[0]:
                os.read(number, 4096)
            else:
                called = True
        if called:
            self._refuse_the_oldest()
            if connection := self._accept():  # one at a time: others may be idle
                self._read(connection)
        if len(self.waiting) > 1:
            # Those in the kernel wait too, and one that is refused here has waited longest.
            room = max(1, self.settings.max_waiting - self.listener.get_backlog())
            while len(self.waiting) > room:
                self._refuse(self.waiting.popleft(), _TOO_BUSY)
        if self.waiting:
            self._answer(self.waiting.popleft())
        if time.monotonic() > self.looked + self.patience:
            self._end_the_late()

    def _leave(self) -> None:
        """Answer everybody who is connected, then stop."""
        while not self.replaced and (connection := self._accept()):
            self._read(connection)
        self.poller.unregister(self.listener)
        now = time.monotonic()
        # A second before the master loses its patience, so that it is we who close the connections.
        last = now + max(self.cfg.graceful_timeout - 1, self.cfg.graceful_timeout / 2)
        for connection in self.watched.values():
            silent = connection.state is State.READING and not connection.received
            connection.deadline = min(connection.deadline, now + LEAVING if silent else last)
        self.patience = 0.1
        while (self.waiting or self.watched) and time.monotonic() < last:
            self._turn()

    def _accept(self) -> Connection | None:
        try:
            sock, address = self.listener.accept()
        except BlockingIOError:  # another worker was faster
            return None
        except OSError as error:
            self.log.warning("a connection was lost: %s", error.strerror)
            if error.errno == errno.EMFILE and self.watched:
                self._end_the_oldest()
            return None
        sock.setblocking(False)
        connection = Connection(sock, address, self.settings.max_request_bytes)
        connection.deadline = time.monotonic() + self.settings.read_timeout
        return connection

    def _refuse_the_oldest(self) -> None:
        """Of the requests that wait in the kernel, until few enough connections are left there."""
        for _ in range(_REFUSALS):
            if self.listener.get_backlog() <= self.settings.max_waiting:
                return
            if connection := self._accept():
                self._read(connection)
                if connection.state is State.WAITING:
                    self._refuse(self.waiting.pop(), _TOO_BUSY)

    def _attend(self, connection: Connection) -> None:
        """Its socket can be read from, or written to."""
        if connection.state is State.READING:
            self._read(connection)
        elif connection.state is State.WRITING:
            self._write(connection)
        elif connection.state is State.LINGERING:
            most = LINGER_REQUESTS * self.settings.max_request_bytes
            if not self._receive(connection) or connection.discarded > most:
                self._close(connection)

    def _receive(self, connection: Connection) -> bool:
        """Whether the client may send more."""
        try:
            return connection.receive()
        except OSError:
            return False

    def _read(self, connection: Connection) -> None:
        """Take what has come of a request."""
        before = len(connection.received)
        open_ended = self._receive(connection)
        self.unlooked += len(connection.received) - before
        if not before and connection.received:
            connection.deadline = time.monotonic() + self.settings.read_timeout
        if connection.complete and connection.too_large:
            large = too_large(self.settings.max_request_mib)
            self._refuse(connection, _TOO_CHOPPED if connection.too_chopped else large)
        elif connection.complete:
            connection.state = State.WAITING
            self.waiting.append(connection)
        elif open_ended:
            self._watch(connection, select.EPOLLIN)
            if self.unlooked > _LOOK_EVERY:
                self._limit_memory()
        elif connection.received:
            self._refuse(connection, _INCOMPLETE)
        else:
            self._close(connection)

    def _limit_memory(self) -> None:
        """Refuse the largest of the unfinished requests until what is buffered has room."""
        self.unlooked = 0
        unfinished = [c for c in self.watched.values() if c.state is State.READING]
        unfinished.sort(key=lambda connection: len(connection.received))
        held = sum(len(connection.received) for connection in (*unfinished, *self.waiting))
        while unfinished and held > BUFFERED_REQUESTS * self.settings.max_request_bytes:
            largest = unfinished.pop()
            held -= len(largest.received)
            self._refuse(largest, _TOO_BUSY)

    def _answer(self, connection: Connection) -> None:
        """Have the application answer the request that has come."""
        request = None
        connection.closing = True
        try:
            request = next(http.get_parser(self.cfg, connection, connection.address))
            connection.closing = self._call(request, connection)
        except (NoMoreData, StopIteration):
            connection.output = [http_bytes(_INCOMPLETE, connection.path)]
        except Exception as error:
            connection.output.clear()
            self.handle_error(request, connection, connection.address, error)
        self._write(connection)

    def _call(self, request: Any, connection: Connection) -> bool:
        """Collect the application's answer. Whether the connection ends with it."""
        response, environ = wsgi.create(
            request, connection, connection.address, self.server_address, self.cfg
        )
        if connection.chunked:
            body = request.body.read()
            environ["CONTENT_LENGTH"] = str(len(body))
            environ.pop("HTTP_TRANSFER_ENCODING", None)
        else:
            body = connection.body
        environ["wsgi.input"] = BytesIO(body)
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
        connection.output, connection.closing = [http_bytes(error, connection.path)], True
        self._write(connection)

    def _write(self, connection: Connection) -> None:
        """Send the answer, or as much of it as the client takes."""
        left = b"".join(connection.output)
        try:
            sent = connection.sock.send(left) if left else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            return self._close(connection)
        connection.output = [left[sent:]] if sent < len(left) else []
        if connection.output:
            if connection.state is not State.WRITING:
                connection.deadline = time.monotonic() + self.settings.read_timeout
            connection.state = State.WRITING
            return self._watch(connection, select.EPOLLOUT)
        if not connection.closing:
            return self._go_on(connection)
        if connection.complete and not connection.too_large:
            return self._close(connection)
        return self._linger(connection)

    def _go_on(self, connection: Connection) -> None:
        """To the client's next request."""
        connection.next_request()
        connection.deadline = time.monotonic() + KEPT
        if connection.received:
            self._read(connection)
        else:
            self._watch(connection, select.EPOLLIN)

    def _linger(self, connection: Connection) -> None:
        """A system that still sends when the other closes reports a reset, and no answer."""
        connection.state = State.LINGERING
        connection.deadline = time.monotonic() + LINGER
        connection.received.clear()
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            return self._close(connection)
        return self._watch(connection, select.EPOLLIN)

    def _watch(self, connection: Connection, events: int) -> None:
        if connection.polled == events:
            return
        number = connection.sock.fileno()
        if connection.polled:
            self.poller.modify(number, events)
        else:
            if len(self.watched) >= self.cfg.worker_connections:
                self._end_the_oldest()
            self.poller.register(number, events)
            self.watched[number] = connection
        connection.polled = events

    def _end_the_late(self) -> None:
        """Those whose time is over."""
        self.looked = time.monotonic()
        for connection in list(self.watched.values()):
            if connection.deadline < self.looked:
                self._end(connection)

    def _end_the_oldest(self) -> None:
        """To make room."""
        self._end(min(self.watched.values(), key=lambda connection: connection.deadline))

    def _end(self, connection: Connection) -> None:
        if connection.state is State.READING and connection.received:
            self._refuse(connection, _TOO_SLOW)
        elif connection.state is not State.WAITING:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        if connection.polled:
            number = connection.sock.fileno()
            self.poller.unregister(number)
            del self.watched[number]
            connection.polled = 0
        connection.sock.close()
