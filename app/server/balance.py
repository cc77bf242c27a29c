"""A table that the workers share: which of them are idle, and how many connections each has.

A kept connection stays with its worker, so two busy clients may share one worker while another is
idle. A worker with waiting requests accepts no connection while another worker is idle. It also
closes connections after their answers while it has two more than that worker. Their clients connect
again, and the idle worker accepts them.
"""

import mmap

_PLACES = 4096  # a worker's number modulo this is its place; numbers only rise
_MOST = 65_535  # the largest number of connections that a place can hold


class Balance:
    """A table in memory that the master shares with its workers, with a place for each."""

    def __init__(self) -> None:
        self._idle = mmap.mmap(-1, _PLACES)
        self._held = memoryview(mmap.mmap(-1, 2 * _PLACES)).cast("H")

    def note(self, worker: int, *, idle: bool, held: int) -> None:
        """Set whether the worker of this number is idle, and how many connections it has."""
        place = worker % _PLACES
        self._held[place] = min(held, _MOST)
        self._idle[place] = idle

    def idle_one(self) -> int | None:
        """Return the number of connections of an idle worker, or None if all are busy."""
        place = self._idle.find(b"\1")
        return None if place < 0 else self._held[place]
