"""Counts that all workers of a service share, for Flask-Limiter; in Redis where one is named.

The table has a fixed size, and its memory is allocated before the workers are forked: there is no
file that grows, and nothing that can run out of room while it counts.
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
ROWS = 65_536  # for each caller as many as there are limits: 100/minute;2000/day are two
_SET = 8  # rows that a key may stand in
_ROW = struct.Struct("=16s d Q")  # digest of the key, when its window ends, count
_FORGOTTEN = struct.Struct("=Q")  # at the head of the table
_SAY_EVERY = 60.0  # seconds between two log lines on the same thing
_LONGEST_PAUSE = 32.0  # seconds in which an absent Redis is not asked

_log = logging.getLogger(__name__)


class Table:
    """Windows of fixed length: for each key a count, and the time when it ends.

    A new key takes the place of a window that is over. Where there is none in the key's set of
    rows, the count of the key that was counted least is forgotten. Times are the monotonic clock's,
    which all processes of a machine share and nobody sets.
    """

    def __init__(self, rows: int = ROWS) -> None:
        self._sets = rows // _SET
        size = _FORGOTTEN.size + rows * _ROW.size
        self._memory = mmap.mmap(-1, size)
        self._memory[:] = bytes(size)  # allocates all of it
        self._secret = os.urandom(16)  # so that nobody can choose keys that share a set
        # The system frees the lock of a process that ends; it does not tell threads apart.
        self._file = _file_to_lock()
        self._threads = threading.Lock()

    @property
    def forgotten(self) -> int:
        """How many counts had to make room for others before their window was over."""
        return int(_FORGOTTEN.unpack_from(self._memory)[0])

    def add(self, key: str, seconds: float, amount: int) -> tuple[int, bool]:
        """Return the count of `key` with `amount` added, and whether another had to be forgotten.

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
            place, _, ends, _ = min(rows, key=lambda row: (row[2] > now, row[3], row[2]))
            _ROW.pack_into(self._memory, place, digest, now + seconds, amount)
            forgotten = ends > now
            if forgotten:
                _FORGOTTEN.pack_into(self._memory, 0, self.forgotten + 1)
        return amount, forgotten

    def look(self, key: str) -> tuple[int, float]:
        """The count of `key`, and in how many seconds its window ends; (0, 0) without one."""
        now = time.monotonic()
        digest = self._digest(key)
        with self._locked():
            for _, found, ends, count in self._rows(digest):
                if found == digest and ends > now:
                    return count, ends - now
        return 0, 0.0

    def forget(self, key: str | None = None) -> None:
        """Forget the count of `key`; every count without one."""
        digest = self._digest(key) if key is not None else b""
        with self._locked():
            if key is None:
                self._memory[:] = bytes(len(self._memory))
                return
            for place, found, _, _ in self._rows(digest):
                if found == digest:
                    _ROW.pack_into(self._memory, place, b"", 0.0, 0)

    def _rows(self, digest: bytes) -> Iterator[tuple[int, bytes, float, int]]:
        """Where each row of the key's set is, and what stands in it."""
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
    """A file that has no name and never any content."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("metaplastic-counts")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


@functools.cache
def table() -> Table:
    """The table of this service: made by the master, which the workers have it from."""
    return Table()


class RateLimitStore(Storage):
    """The table as Flask-Limiter asks for it.

    Where `redis` is a URL, the counts are there, and in the table only while Redis is away: it is
    asked again after a pause that doubles.
    """

    STORAGE_SCHEME = [SCHEME]  # noqa: RUF012

    def __init__(
        self, uri: str = "", wrap_exceptions: bool = False, *, redis: str = "", **_: Any
    ) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self.table = table()
        self._redis = _connect(redis) if redis else None
        self._pause = 0.0  # seconds, once Redis was found to be away
        self._ask_again = 0.0  # on the monotonic clock
        self._said = -_SAY_EVERY

    @property
    def base_exceptions(self) -> type[Exception]:
        return OSError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """The count of `key` with `amount` added; a new window lasts `expiry` seconds."""
        count: int = self._ask(
            lambda redis: redis.incr(key, expiry, amount), lambda: self._add(key, expiry, amount)
        )
        return count

    def get(self, key: str) -> int:
        count: int = self._ask(lambda redis: redis.get(key), lambda: self.table.look(key)[0])
        return count

    def get_expiry(self, key: str) -> float:
        """When the window of `key` ends, as the time of day."""
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
        """What Redis answers, or the table where Redis is away or not named."""
        if self._redis is None or time.monotonic() < self._ask_again:
            return here()
        try:
            found = there(self._redis)
        except self._redis.base_exceptions as error:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE) or 1.0
            self._ask_again = time.monotonic() + self._pause
            _log.warning("Redis is away: %s. The service counts for itself.", error)
            return here()
        if self._pause:
            self._pause = 0.0
            _log.warning("Redis is back, and counts.")
        return found

    def _add(self, key: str, seconds: int, amount: int) -> int:
        count, forgotten = self.table.add(key, seconds, amount)
        if forgotten and time.monotonic() > self._said + _SAY_EVERY:
            self._said = time.monotonic()
            _log.warning(
                "The rate limit has no room for more than %d counts; those of callers who asked "
                "least are forgotten early.",
                ROWS,
            )
        return count


def _connect(url: str) -> Any:
    return storage_from_string(url, socket_connect_timeout=1, socket_timeout=1)
