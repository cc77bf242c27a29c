"""The values of prometheus-client's metrics, in files that are allocated before they are mapped.

prometheus-client grows its files by truncate, which allocates no blocks, and maps them. If the file
system is full, the next write to a value ends the process with SIGBUS.

prometheus-client's values are also copies, and each write takes a lock and compares the process id.
Here a value is its place in the mapped file. Counting is one addition there, every other process
sees it at once, and a killed process loses nothing.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from prometheus_client.mmap_dict import MmapedDict, mmap_key

from app.runtime import VARIABLE

_FIRST_SIZE = 64 * 1024  # bytes; prometheus-client doubles it when it needs more
_TRY_AGAIN = 10.0  # seconds between two attempts to find space
_LOG_INTERVAL = 60.0  # seconds between two log lines about missing space
_FLOAT = 8  # bytes
_log = logging.getLogger(__name__)


class AllocatedFile(MmapedDict):
    """A file of values whose blocks are all allocated. Raises OSError if there is no more space."""

    def __init__(self, filename: str) -> None:
        path = Path(filename)
        if not path.exists():
            # Made under another name first: readers of all files must not find one without its
            # head.
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
        """Reserve a place in the file for the value of `key`. Raises OSError."""
        if key in self._positions:
            return
        # The length, the key, up to 8 bytes of padding, the value and its time: see
        # MmapedDict._init_value.
        needed = self._used + 4 + len(key.encode()) + 8 + 16
        capacity = self._capacity
        while needed > capacity:
            capacity *= 2
        if capacity > self._capacity:
            _allocate(self._f.fileno(), capacity)
        self._init_value(key)  # type: ignore[no-untyped-call]

    def place_of(self, key: str) -> memoryview[float]:
        """Return the place of the value of `key`, one float64. Raises OSError."""
        self.make_room_for(key)
        start = self._positions[key]
        return memoryview(self._m)[start : start + _FLOAT].cast("d")


class Value:
    """A value as prometheus-client uses it. Make it in the process that counts.

    A value for which the file has no space is kept in this process until there is space. Threads
    must not change values at the same time.
    """

    def __init__(
        self,
        kind: str,
        *key: Any,  # the metric's name, the value's, names and values of the labels, the help text
        multiprocess_mode: str = "",
        **_: Any,
    ) -> None:
        self.file = f"{kind}_{multiprocess_mode}" if multiprocess_mode else kind
        self.key = mmap_key(*key)
        self.place = memoryview(bytearray(_FLOAT)).cast("d")
        if os.environ.get(VARIABLE):
            _without_room.append(self)
            find_room()

    def inc(self, amount: float) -> None:
        """Add `amount` to the value."""
        self.place[0] += amount

    def set(self, value: float, _: Any = None) -> None:
        """Set the value."""
        self.place[0] = value

    def get(self) -> float:
        """Return the value."""
        return self.place[0]

    def get_exemplar(self) -> None:
        """Return None: there are no exemplars."""


_files: dict[str, AllocatedFile] = {}
_without_room: list[Value] = []
_next_try = _next_word = 0.0


def find_room() -> None:
    """Move the values that are not in a file into their files, if there is space now."""
    global _next_try, _next_word
    if not _without_room or (now := time.monotonic()) < _next_try:
        return
    try:
        while _without_room:
            value = _without_room[-1]
            place = _file(value.file).place_of(value.key)
            place[0] += value.get()
            value.place = place
            _without_room.pop()
    except OSError as error:
        _next_try = now + _TRY_AGAIN
        if now >= _next_word:
            _next_word = now + _LOG_INTERVAL
            _log.warning(
                "%s: %s. New values of /metrics stay in this worker until there is room.",
                os.environ[VARIABLE],
                error.strerror,
            )


def values_without_room() -> int:
    """Return the number of values of this process that are in no file."""
    return len(_without_room)


def _file(name: str) -> AllocatedFile:
    """Return this process's file for values of one kind. Raises OSError."""
    if name not in _files:
        _files[name] = AllocatedFile(f"{os.environ[VARIABLE]}/{name}_{os.getpid()}.db")
    return _files[name]


def _allocate(descriptor: int, size: int) -> None:
    """Allocate `size` bytes for the file. Raises OSError if there is no space."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS has no posix_fallocate, and no file system in memory that could be full
        os.truncate(descriptor, size)
