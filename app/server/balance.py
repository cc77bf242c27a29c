"""What the workers know of each other: who is idle, and how many connections each holds.

A kept connection stays with its worker, so that two busy clients may share one while another has
nothing to do. A worker that has more to do than it can takes up nobody while another is idle, and
closes connections with their answers while it holds two more than that one: their clients come
again, and the idle worker takes them up.
"""

import mmap

_PLACES = 4096  # workers have numbers that rise; so many later, a place is another's
_MOST = 65_535


class Balance:
    """A table in memory that the master shares with its workers: a place for each."""

    def __init__(self) -> None:
        self._idle = mmap.mmap(-1, _PLACES)
        self._held = memoryview(mmap.mmap(-1, 2 * _PLACES)).cast("H")

    def note(self, worker: int, *, idle: bool, held: int) -> None:
        """Say that the worker of this number is idle, or not, and holds so many connections."""
        place = worker % _PLACES
        self._held[place] = min(held, _MOST)
        self._idle[place] = idle

    def idle_one(self) -> int | None:
        """Return how many connections a worker that is idle holds; None where all are busy."""
        place = self._idle.find(b"\1")
        return None if place < 0 else self._held[place]
