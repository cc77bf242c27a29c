"""One client's connection: what it has sent, whether that is a complete request, and its answer.

gunicorn's parser reads and checks every request. For the parser, a Connection is a socket on which
everything has arrived. This module only finds the end of the request.
"""

import contextlib
import re
import socket
import time
from enum import Enum, auto

from app.server.budget import Budget

MOST_HEAD = 64 * 1024  # bytes of a request's line and headers, or of a chunked body's trailers
MOST_CHUNKS = 50_000  # a chunk of any size costs gunicorn some microseconds
_MOST_DIGITS = 15  # digits of a length; Python converts very long numbers slowly
_MOST_PATH = 256  # bytes; the service's own paths are shorter
_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\nContent-Length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\nTransfer-Encoding:", re.IGNORECASE)
# HTTP/1.0 requests must have this header ignored (RFC 9110 10.1.1).
_EXPECTS = re.compile(
    rb"[^\r]* HTTP/1\.[1-9]\r\n(?:.*\r\n)?Expect:[ \t]*100-continue[ \t]*\r\n",
    re.IGNORECASE | re.DOTALL,
)


class State(Enum):
    """The states of a connection."""

    NEW = auto()  # before its first request begins
    IDLE = auto()  # between two requests
    READING = auto()  # a request is incomplete
    WAITING = auto()  # a complete request waits for the worker
    WRITING = auto()  # the client has not taken all of the answer
    LINGERING = auto()  # the rest of an upload is discarded, so that the client gets its answer


SILENT = (State.NEW, State.IDLE)


class Connection:
    """A client's socket, which never blocks, and the bytes that are received or to be sent.

    `limit` is the largest body of a request in bytes. What the connection holds counts in `budget`.
    """

    def __init__(
        self, sock: socket.socket, address: tuple[str, int], limit: int, budget: Budget
    ) -> None:
        self.sock = sock
        self.address = address
        self.limit = limit
        self.budget = budget
        self.state = State.NEW
        self.since = 0.0  # time of the last progress in this state, on the monotonic clock
        self.deadline = 0.0  # end of this state, on the same clock
        self.polled = 0  # events for which the worker polls it
        self.discarded = 0  # discarded bytes
        self.closing = False  # whether it is closed after the answer
        self.lingers = True  # whether it lingers before it is closed
        self.given_away = False  # whether a thread answers and closes it: see aside.py
        self.received = bytearray()
        self._parts: list[bytes] = []  # parts of an unfinished answer
        self._output = b""
        self._sent = 0  # bytes of the output that are sent
        self._begin()

    def enter(self, state: State, seconds: float) -> None:
        """Begin `state`, which may last for `seconds`."""
        self.state = state
        self.since = time.monotonic()
        self.deadline = self.since + seconds

    def receive(self, most: int) -> bool:
        """Receive at most `most` bytes. Return False at the end of the client's data.

        Raises OSError if the client is gone.
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
        """Return whether the request is complete, or can no longer become a valid one."""
        if not self.head:
            self._find_head()
        if self.chunked and not self.end:
            self._find_last_chunk()
        return 0 < self.end <= len(self.received)

    @property
    def path(self) -> str:
        """Return the path of the request, as far as it has arrived."""
        words = self._bytes(0, min(len(self.received), _MOST_PATH)).split(b"\r\n")[0].split(b" ")
        return words[1].decode("latin-1") if len(words) > 1 else ""

    @property
    def all_taken(self) -> bool:
        """Return whether a complete request has arrived, and nothing after it."""
        return self.complete and not self.too_large and self.end == len(self.received)

    def body(self) -> bytes:
        """Return the body as it was sent."""
        return self._bytes(self.head, self.end)

    def take_body(self) -> bytes:
        """Return the body as it was sent, and free the request."""
        body = self.body()
        self.forget_request()
        return body

    def forget_request(self) -> None:
        """Free the request that is answered. What arrived after it stays."""
        self.budget.free(self.end)
        del self.received[: self.end]
        self._begin()

    def forget_all(self) -> None:
        """Free everything that has arrived."""
        self.budget.free(len(self.received))
        self.received.clear()
        self._begin()

    def _begin(self) -> None:
        """Reset what is known of the request."""
        self.head = 0  # length of its head; 0 until it is complete
        self.end = 0  # length of the request; 0 until it is known
        self.chunked = False  # whether its body is chunked
        self.too_large = False  # whether its body exceeds the limit; the rest is not awaited
        self.too_chopped = False  # whether it has too many chunks; it is then also too large
        self._chunks = 0  # chunks that have begun
        self._searched = 0  # bytes that need not be searched again
        self._taken = 0  # bytes that gunicorn has read

    def _bytes(self, start: int, end: int) -> bytes:
        with memoryview(self.received) as view:
            return bytes(view[start:end])

    def answer(self, *parts: bytes) -> None:
        """Make `parts` the answer. They replace an unfinished answer."""
        self._parts = list(parts)

    def flush(self) -> bool:
        """Send the answer, or as much of it as the client takes. Return whether all is sent.

        Raises OSError if the client is gone.
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
        """Close the connection and free what it holds."""
        self.forget_all()
        self._forget_answer()
        self.sock.close()

    # The methods of a socket that gunicorn calls.

    def recv(self, size: int) -> bytes:
        """Return the next bytes of the request; b"" at its end."""
        part = self._bytes(self._taken, min(self._taken + size, self.end))
        self._taken += len(part)
        return part

    def sendall(self, data: bytes) -> None:
        """Keep a part of the answer. The whole answer is sent later."""
        self._parts.append(data)

    def getsockopt(self, *arguments: int) -> int | bytes:
        """Return an option of the socket."""
        return self.sock.getsockopt(*arguments)

    def send(self, data: bytes) -> int:
        """Ignore "100 Continue", for which gunicorn calls this: it was sent before."""
        return len(data)

    def _find_head(self) -> None:
        """Search for the end of the head, and read from the head how long the body is."""
        data = self.received
        end = data.find(_END, max(0, self._searched - len(_END)))
        self._searched = len(data)
        if end < 0:
            # gunicorn refuses a bare line feed, so after one the end of the head might never come.
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
            with contextlib.suppress(OSError):  # a client that is gone is noticed later
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
                end = data.find(_END, line)  # the end of the trailers, usually empty
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
        """Treat what has arrived as the request. gunicorn then reports what is wrong with it."""
        self.end = len(self.received)
        self.head = self.head or self.end
