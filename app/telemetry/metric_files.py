"""prometheus-client's files of values, allocated before they are mapped.

It grows its files by truncate, which allocates nothing, and maps them: where the file system is
full, the next value that is written ends the process with SIGBUS.
"""

import logging
import os
import time
from pathlib import Path
from typing import Any

from prometheus_client.mmap_dict import MmapedDict

_FIRST_SIZE = 64 * 1024  # bytes; prometheus-client doubles it as often as it has to
_TRY_AGAIN = 10.0  # seconds between two tries to find room
_SAY_AGAIN = 60.0  # and between two log lines on it
_log = logging.getLogger(__name__)


class AllocatedFile(MmapedDict):
    """A file of values that has all its blocks. Raises OSError where there is no room for more."""

    def __init__(self, filename: str) -> None:
        path = Path(filename)
        if not path.exists():
            # Under another name first: who reads all files must not find one without a head.
            partial = path.with_name(f".{path.name}")
            try:
                with partial.open("wb") as file:
                    _allocate(file.fileno(), _FIRST_SIZE)
                partial.replace(path)
            except OSError:
                partial.unlink(missing_ok=True)
                raise
        super().__init__(filename)  # type: ignore[no-untyped-call]

    def make_room_for(self, key: str) -> None:
        """Have a place in the file for the value of `key`. Raises OSError."""
        if key in self._positions:
            return
        # Length, key, up to 8 bytes of padding, value and time: see MmapedDict._init_value.
        needed = self._used + 4 + len(key.encode()) + 8 + 16
        capacity = self._capacity
        while needed > capacity:
            capacity *= 2
        if capacity > self._capacity:
            _allocate(self._f.fileno(), capacity)
        self._init_value(key)  # type: ignore[no-untyped-call]


class Values:
    """What prometheus-client asks of a file of values.

    Those for which the file has no room are kept in this process alone, until there is room.
    """

    def __init__(self, filename: str) -> None:
        self._filename = filename
        self._file: Any = None  # an AllocatedFile, once there is room for one
        self._placed: set[str] = set()  # keys in the file
        self._kept: dict[str, tuple[float, float]] = {}  # the others' values, and their times
        self._next_try = self._next_word = 0.0
        _open.append(self)

    def read_value(self, key: str) -> tuple[float, float]:
        """The value of `key` and its time; a new one is 0."""
        file = self._file_for(key)
        return file.read_value(key) if file else self._kept.setdefault(key, (0.0, 0.0))

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        """Set the value of `key`."""
        if file := self._file_for(key):
            file.write_value(key, value, timestamp)
        else:
            self._kept[key] = value, timestamp

    def close(self) -> None:
        """Close the file."""
        _open.remove(self)
        if self._file:
            self._file.close()

    def _file_for(self, key: str) -> Any:
        """The file, with a place for the value of `key`; None where there is no room."""
        if self._kept or key not in self._placed:
            self._try_to_place(key)
        return self._file if key in self._placed else None

    def _try_to_place(self, key: str) -> None:
        """Put the value of `key` into the file, and those that had no room so far."""
        now = time.monotonic()
        if now < self._next_try:
            return
        try:
            self._file = self._file or AllocatedFile(self._filename)
            for one in (key, *self._kept):
                self._file.make_room_for(one)
                self._placed.add(one)
                if one in self._kept:
                    self._file.write_value(one, *self._kept.pop(one))
        except OSError as error:
            self._next_try = now + _TRY_AGAIN
            if now >= self._next_word:
                self._next_word = now + _SAY_AGAIN
                _log.warning(
                    "%s: %s. New values of /metrics stay in this worker until there is room.",
                    self._filename,
                    error.strerror,
                )


_open: list[Values] = []


def values_without_room() -> int:
    """How many values of this process are in no file."""
    return sum(len(values._kept) for values in _open)


def _allocate(descriptor: int, size: int) -> None:
    """Raise OSError where the file cannot have `size` bytes of its own."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS, whose shared memory is no file system
        os.truncate(descriptor, size)
