"""The counts of the rate limit, which all workers share, as a storage for Flask-Limiter.

The counts are in Redis if METAPLASTIC_REDIS names one, and otherwise in a table in shared memory.
The table has a fixed size, and its memory is allocated before the workers are forked, so it cannot
run out of space while it counts.
"""

import fcntl
import functools
import hashlib
import logging
import mmap
import os
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from limits.storage import Storage, storage_from_string

SCHEME = "metaplastic-shared"
ROWS = 65_536  # a caller takes one row for each limit: 100/minute;2000/day are two limits
_SET = 8  # rows in which a key may be stored
_ROW = struct.Struct("=16s d Q")  # digest of the key, end of its window, count
_FORGOTTEN = struct.Struct("=Q")  # the first number of the table
_LOG_INTERVAL = 60.0  # seconds between two log lines about a full table
_LONGEST_PAUSE = 32.0  # seconds between two attempts to reach Redis

_log = logging.getLogger(__name__)


class Table:
    """Fixed windows in shared memory: for each key a count, and the time at which its window ends.

    A key has a set of _SET rows, chosen by its digest. A new key takes a row whose window is over.
    If there is none, it replaces the key with the smallest count. Times are those of the monotonic
    clock, which all processes of a machine share.
    """

    def __init__(self, rows: int = ROWS) -> None:
        self._sets = rows // _SET
        size = _FORGOTTEN.size + rows * _ROW.size
        self._memory = mmap.mmap(-1, size)
        self._memory[:] = bytes(size)  # writing allocates the memory
        self._secret = os.urandom(16)  # callers cannot predict which keys share a set
        # A file lock is released when its process ends, but it does not exclude other threads.
        self._file = _file_to_lock()
        self._threads = threading.Lock()

    @property
    def forgotten(self) -> int:
        """Return how many counts were replaced before their window was over."""
        return int(_FORGOTTEN.unpack_from(self._memory)[0])

    def add(self, key: str, seconds: float, amount: int) -> tuple[int, bool]:
        """Add `amount` to the count of `key`; return it, and whether another key was replaced.

        A new window lasts `seconds`.
        """
        now = time.monotonic()
        digest = self._digest(key)
        with self._locked():
            rows = list(self._rows(digest))
            for place, found, ends, count in rows:
                if found == digest and ends > now:
                    _ROW.pack_into(self._memory, place, digest, ends, count + amount)
                    return count + amount, False
            # A finished window first; then the smallest count; then the window that ends first.
            place, _, ends, _ = min(rows, key=lambda row: (row[2] > now, row[3], row[2]))
            _ROW.pack_into(self._memory, place, digest, now + seconds, amount)
            forgotten = ends > now
            if forgotten:
                _FORGOTTEN.pack_into(self._memory, 0, self.forgotten + 1)
        return amount, forgotten

    def look(self, key: str) -> tuple[int, float]:
        """Return the count of `key` and the seconds until its window ends, or (0, 0)."""
        now = time.monotonic()
        digest = self._digest(key)
        with self._locked():
            for _, found, ends, count in self._rows(digest):
                if found == digest and ends > now:
                    return count, ends - now
        return 0, 0.0

    def forget(self, key: str | None = None) -> None:
        """Delete the count of `key`, or every count if no key is given."""
        digest = self._digest(key) if key is not None else b""
        with self._locked():
            if key is None:
                self._memory[:] = bytes(len(self._memory))
                return
            for place, found, _, _ in self._rows(digest):
                if found == digest:
                    _ROW.pack_into(self._memory, place, b"", 0.0, 0)

    def _rows(self, digest: bytes) -> Iterator[tuple[int, bytes, float, int]]:
        """Yield the position and the content of each row of the digest's set."""
        number = int.from_bytes(digest[:8], "little") % self._sets
        start = _FORGOTTEN.size + number * _SET * _ROW.size
        for place in range(start, start + _SET * _ROW.size, _ROW.size):
            yield place, *_ROW.unpack_from(self._memory, place)

    def _digest(self, key: str) -> bytes:
        text = key.encode("utf-8", "surrogateescape")
        return hashlib.blake2b(text, digest_size=16, key=self._secret).digest()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._threads:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)


def _file_to_lock() -> int:
    """Return the descriptor of a file without name or content, which serves as a lock."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("metaplastic-counts")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


@functools.cache
def table() -> Table:
    """Return the table of this service. The master makes it, and its workers inherit it."""
    return Table()


class RateLimitStore(Storage):
    """The table as a storage of Flask-Limiter.

    With `redis`, a URL, the counts are in Redis. While Redis cannot be reached, they are in the
    table, and Redis is tried again after a pause that doubles.
    """

    STORAGE_SCHEME = [SCHEME]  # noqa: RUF012

    def __init__(
        self, uri: str = "", wrap_exceptions: bool = False, *, redis: str = "", **_: Any
    ) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self.table = table()
        self._redis = _connect(redis) if redis else None
        self._pause = 0.0  # seconds until the next attempt; 0 while Redis answers
        self._ask_again = 0.0  # time of the next attempt, on the monotonic clock
        self._last_log = -_LOG_INTERVAL

    @property
    def base_exceptions(self) -> type[Exception]:
        return OSError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Add `amount` to the count of `key` and return it. A new window lasts `expiry` seconds."""
        count: int = self._ask(
            lambda redis: redis.incr(key, expiry, amount), lambda: self._add(key, expiry, amount)
        )
        return count

    def get(self, key: str) -> int:
        count: int = self._ask(lambda redis: redis.get(key), lambda: self.table.look(key)[0])
        return count

    def get_expiry(self, key: str) -> float:
        """Return the end of the key's window, in seconds since 1970."""
        end: float = self._ask(
            lambda redis: redis.get_expiry(key), lambda: time.time() + self.table.look(key)[1]
        )
        return end

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        self._ask(lambda redis: redis.reset(), self.table.forget)
        return None

    def clear(self, key: str) -> None:
        self._ask(lambda redis: redis.clear(key), lambda: self.table.forget(key))

    def _ask(self, there: Callable[[Any], Any], here: Callable[[], Any]) -> Any:
        """Return the answer of Redis, or of the table if Redis is not used or cannot be reached."""
        if self._redis is None or time.monotonic() < self._ask_again:
            return here()
        try:
            found = there(self._redis)
        except self._redis.base_exceptions as error:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE) or 1.0
            self._ask_again = time.monotonic() + self._pause
            _log.warning("Redis cannot be reached: %s. The service counts in memory.", error)
            return here()
        if self._pause:
            self._pause = 0.0
            _log.warning("Redis can be reached again. The service counts there.")
        return found

    def _add(self, key: str, seconds: int, amount: int) -> int:
        count, forgotten = self.table.add(key, seconds, amount)
        if forgotten and time.monotonic() > self._last_log + _LOG_INTERVAL:
            self._last_log = time.monotonic()
            _log.warning(
                "The rate limit has room for %d counts only. The smallest counts are deleted "
                "before their time.",
                ROWS,
            )
        return count


def _connect(url: str) -> Any:
    # A second at most: requests wait for the answer.
    return storage_from_string(url, socket_connect_timeout=1, socket_timeout=1)
