"""A table that the workers share: which of them are idle, and how many connections each has.

A kept connection stays with its worker, so two busy clients may share one worker while another is
idle. A worker with waiting requests accepts no connection while another worker is idle. It also
closes connections after their answers while it has two more than that worker. Their clients connect
again, and the idle worker accepts them. An idle worker notes that it is idle every second, so one
that is stopped does not count.
"""

import mmap
import time

_PLACES = 4096  # a worker's number modulo this is its place; numbers only rise
_MOST = 65_535  # the largest number of connections that a place can hold
_FRESH = 2.0  # seconds; an idle worker polls for one second at most


class Balance:
    """A table in memory that the master shares with its workers, with a place for each."""

    def __init__(self) -> None:
        self._idle = mmap.mmap(-1, _PLACES)
        self._held = memoryview(mmap.mmap(-1, 2 * _PLACES)).cast("H")
        self._noted = memoryview(mmap.mmap(-1, 8 * _PLACES)).cast("d")  # on the monotonic clock

    def note(self, worker: int, *, idle: bool, held: int) -> None:
        """Set whether the worker of this number is idle, and how many connections it has."""
        place = worker % _PLACES
        self._held[place] = min(held, _MOST)
        self._noted[place] = time.monotonic()
        self._idle[place] = idle

    def idle_one(self) -> int | None:
        """Return the number of connections of an idle worker, or None if all are busy."""
        oldest, place = time.monotonic() - _FRESH, -1
        while (place := self._idle.find(b"\1", place + 1)) >= 0:
            if self._noted[place] > oldest:
                return self._held[place]
        return None
