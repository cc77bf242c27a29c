"""What the processes of this machine and those of a cluster have in common."""

from typing import NamedTuple, Protocol

from app.bulk.answers import Done
from app.bulk.job import Chunk


class Died(NamedTuple):
    """A chunk whose process ended before the part was written."""

    number: int
    reason: str


class Lost(NamedTuple):
    """A chunk that went with its machine, which says nothing about its pictures."""

    number: int


Ended = Done | Died | Lost


class Runner(Protocol):
    """Processes that work on chunks."""

    def slots(self) -> int:
        """Return how many chunks may be in the processes' hands at once."""

    def submit(self, chunk: Chunk) -> None:
        """Hand over a chunk."""

    def ended(self, seconds: float) -> list[Ended]:
        """Return what became of chunks, after `seconds` at the latest.

        Raises StartError if no process can do the work.
        """

    def description(self) -> str:
        """Return who works, such as `2 processes`."""

    def close(self) -> None:
        """End the work."""
