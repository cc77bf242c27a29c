"""The values of prometheus-client's metrics, in files that are allocated before they are mapped.

prometheus-client grows its files by truncate, which allocates nothing, and maps them: where the
file system is full, the next value that is written ends the process with SIGBUS.

Its values are copies that are written to the file, with a lock and a look at the process id each
time. Here a value is its place in the mapped file: to count is one addition there, every other
process sees it at once, and a process that is killed loses nothing.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from prometheus_client.mmap_dict import MmapedDict, mmap_key

from app.runtime import VARIABLE

_FIRST_SIZE = 64 * 1024  # bytes; prometheus-client doubles it as often as it has to
_TRY_AGAIN = 10.0  # seconds between two tries to find room
_SAY_AGAIN = 60.0  # and between two log lines on it
_FLOAT = 8  # bytes
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

    def place_of(self, key: str) -> memoryview[float]:
        """Return the place of the value of `key`: one float64. Raises OSError."""
        self.make_room_for(key)
        start = self._positions[key]
        return memoryview(self._m)[start : start + _FLOAT].cast("d")


class Value:
    """What prometheus-client asks of a value. To be made in the process that counts.

    One for which the file has no room is kept in this process alone, until there is room. Threads
    must not change a value at the same time.
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
        """Add `amount`."""
        self.place[0] += amount

    def set(self, value: float, _: Any = None) -> None:
        """Make it `value`."""
        self.place[0] = value

    def get(self) -> float:
        """Return the value."""
        return self.place[0]

    def get_exemplar(self) -> None:
        """Return that there are none."""


_files: dict[str, AllocatedFile] = {}
_without_room: list[Value] = []
_next_try = _next_word = 0.0


def find_room() -> None:
    """Give a place in the files to the values that have none, if there is room by now."""
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
            _next_word = now + _SAY_AGAIN
            _log.warning(
                "%s: %s. New values of /metrics stay in this worker until there is room.",
                os.environ[VARIABLE],
                error.strerror,
            )


def values_without_room() -> int:
    """Return how many values of this process are in no file."""
    return len(_without_room)


def _file(name: str) -> AllocatedFile:
    """The file of this process for values of one kind. Raises OSError."""
    if name not in _files:
        _files[name] = AllocatedFile(f"{os.environ[VARIABLE]}/{name}_{os.getpid()}.db")
    return _files[name]


def _allocate(descriptor: int, size: int) -> None:
    """Raise OSError where the file cannot have `size` bytes of its own."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS, whose shared memory is no file system
        os.truncate(descriptor, size)
