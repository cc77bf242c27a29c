"""One client's connection: what it has sent so far, whether that is a whole request, its answer.

gunicorn's parser, which reads and judges every request, takes a Connection for a socket on which
all has come already. What is looked for here is only where the request ends.
"""

import contextlib
import re
import socket
import time
from enum import Enum, auto

from app.server.budget import Budget

MOST_HEAD = 64 * 1024  # bytes of a request's line and headers, or of a chunked body's trailers
MOST_CHUNKS = 50_000  # each costs gunicorn some microseconds, however small it is
_MOST_DIGITS = 15  # of a length; Python takes its time to read thousands
_MOST_PATH = 256  # bytes; the service's own are shorter
_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\nContent-Length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\nTransfer-Encoding:", re.IGNORECASE)
# In HTTP/1.0 the header is to be ignored (RFC 9110 10.1.1).
_EXPECTS = re.compile(
    rb"[^\r]* HTTP/1\.[1-9]\r\n(?:.*\r\n)?Expect:[ \t]*100-continue[ \t]*\r\n",
    re.IGNORECASE | re.DOTALL,
)


class State(Enum):
    """What is done with a connection."""

    NEW = auto()  # until its first request begins
    IDLE = auto()  # between two requests
    READING = auto()  # until a whole request has come
    WAITING = auto()  # for the worker, with a whole request
    WRITING = auto()  # the rest of an answer
    LINGERING = auto()  # what the client still sends is thrown away, lest it miss its answer


SILENT = (State.NEW, State.IDLE)


class Connection:
    """A client's socket, which never blocks, and the bytes that came from it or go to it.

    `limit` is the most bytes that a request's body may have. What the connection holds counts
    in `budget`.
    """

    def __init__(
        self, sock: socket.socket, address: tuple[str, int], limit: int, budget: Budget
    ) -> None:
        self.sock = sock
        self.address = address
        self.limit = limit
        self.budget = budget
        self.state = State.NEW
        self.since = 0.0  # on the monotonic clock: when the state began, or its last progress
        self.deadline = 0.0  # for the state, on the same clock
        self.polled = 0  # for what the worker's poller looks
        self.discarded = 0  # bytes thrown away
        self.closing = False  # once the answer is sent
        self.lingers = True  # before it is closed
        self.received = bytearray()
        self._parts: list[bytes] = []  # of the answer that is being made
        self._output = b""
        self._sent = 0  # bytes of the output
        self._begin()

    def enter(self, state: State, seconds: float) -> None:
        """Begin `state`, which may last so many seconds."""
        self.state = state
        self.since = time.monotonic()
        self.deadline = self.since + seconds

    def receive(self, most: int) -> bool:
        """Take what has come, at most so many bytes.

        False: the client has ended. Raises OSError: it is gone.
        """
        try:
            data = self.sock.recv(most)
        except BlockingIOError:
            return True
        if self.state is State.LINGERING:
            self.discarded += len(data)
        else:
            self.received += data
            self.budget.received += len(data)
        return bool(data)

    @property
    def complete(self) -> bool:
        """Whether there is a whole request, or one that cannot become a good one any more."""
        if not self.head:
            self._find_head()
        if self.chunked and not self.end:
            self._find_last_chunk()
        return 0 < self.end <= len(self.received)

    @property
    def path(self) -> str:
        """Return what the request asks for, as far as that has come."""
        words = self._bytes(0, min(len(self.received), _MOST_PATH)).split(b"\r\n")[0].split(b" ")
        return words[1].decode("latin-1") if len(words) > 1 else ""

    @property
    def all_taken(self) -> bool:
        """Whether a whole request has come, and nothing behind it."""
        return self.complete and not self.too_large and self.end == len(self.received)

    def take_body(self) -> bytes:
        """The body as it came; the request is forgotten."""
        body = self._bytes(self.head, self.end)
        self.forget_request()
        return body

    def forget_request(self) -> None:
        """Free the request that is, or is to be, answered; what came behind it stays."""
        self.budget.free(self.end)
        del self.received[: self.end]
        self._begin()

    def forget_all(self) -> None:
        """Free all that has come."""
        self.budget.free(len(self.received))
        self.received.clear()
        self._begin()

    def _begin(self) -> None:
        """Nothing is known of the request that comes now."""
        self.head = 0  # bytes of its head, once that has come
        self.end = 0  # bytes of all of it, once they are known
        self.chunked = False  # its body comes in chunks
        self.too_large = False  # its body goes on beyond the limit, and is not waited for
        self.too_chopped = False  # its chunks are too many; it is too large then
        self._chunks = 0  # that have begun
        self._searched = 0  # up to here nothing needs to be looked at again
        self._taken = 0  # by gunicorn

    def _bytes(self, start: int, end: int) -> bytes:
        with memoryview(self.received) as view:
            return bytes(view[start:end])

    def answer(self, *parts: bytes) -> None:
        """Make `parts` the answer, in place of what there may be of one."""
        self._parts = list(parts)

    def flush(self) -> bool:
        """Send the answer, or as much of it as the client takes.

        True: all of it is sent. Raises OSError: the client is gone.
        """
        if self._parts:
            self._output = b"".join(self._parts)
            self._parts.clear()
            self.budget.going_out += len(self._output)
        try:
            sent = self.sock.send(memoryview(self._output)[self._sent :])
        except BlockingIOError:
            return False
        self._sent += sent
        if self._sent < len(self._output):
            self.since = time.monotonic()
            return False
        self._forget_answer()
        return True

    def _forget_answer(self) -> None:
        self.budget.going_out -= len(self._output)
        self._output, self._sent = b"", 0

    def close(self) -> None:
        """End the connection, and free what it holds."""
        self.forget_all()
        self._forget_answer()
        self.sock.close()

    # What gunicorn does with a socket.

    def recv(self, size: int) -> bytes:
        """The next bytes of the request; none at its end."""
        part = self._bytes(self._taken, min(self._taken + size, self.end))
        self._taken += len(part)
        return part

    def sendall(self, data: bytes) -> None:
        """Keep a part of the answer, which is sent as a whole."""
        self._parts.append(data)

    def getsockopt(self, *arguments: int) -> int | bytes:
        """What the system knows of the socket."""
        return self.sock.getsockopt(*arguments)

    def send(self, data: bytes) -> int:
        """Pass over "100 Continue", the one thing that gunicorn sends so: it was sent in time."""
        return len(data)

    def _find_head(self) -> None:
        """Look for the end of the head, and in the head for what it says of the body."""
        data = self.received
        end = data.find(_END, max(0, self._searched - len(_END)))
        self._searched = len(data)
        if end < 0:
            # After a bare line feed, which gunicorn refuses, the end might never come.
            if len(data) > MOST_HEAD or data.count(b"\n") != data.count(b"\r\n"):
                self._give_up()
            return
        self.head = self._searched = end + len(_END)
        head = bytes(data[: self.head])
        found = _LENGTH.search(head)
        length = found[1].lstrip(b"0") if found else b""
        if _CHUNKED.search(head):
            self.chunked = True
        elif len(length) > _MOST_DIGITS or int(length or b"0") > self.limit:
            self.too_large, self.end = True, self.head
        else:
            self.end = self.head + int(length or b"0")
        body_follows = len(data) == self.head and (self.chunked or self.end > self.head)
        if body_follows and not self.closing and _EXPECTS.match(head):
            with contextlib.suppress(OSError):  # the client is gone, as will be seen
                self.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _find_last_chunk(self) -> None:
        data = self.received
        while True:
            line = data.find(b"\r\n", self._searched)
            if line < 0:
                if len(data) - self._searched > MOST_HEAD:
                    self._give_up()
                return None
            try:
                size = int(bytes(data[self._searched : line]).partition(b";")[0], 16)
            except ValueError:
                size = -1
            if size < 0:
                return self._give_up()
            if size == 0:
                end = data.find(_END, line)  # of the trailers, of which there are mostly none
                if end >= 0:
                    self.end = end + len(_END)
                elif len(data) - line > MOST_HEAD:
                    self._give_up()
                return None
            self._searched = line + 2 + size + 2
            self._chunks += 1
            self.too_chopped = self._chunks > MOST_CHUNKS
            if self._searched - self.head > self.limit or self.too_chopped:
                self.too_large, self.end = True, self.head
                return None

    def _give_up(self) -> None:
        """Let gunicorn have what there is, and say what is wrong with it."""
        self.end = len(self.received)
        self.head = self.head or self.end
