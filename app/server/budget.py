"""The memory that a worker holds for all its clients together."""

from dataclasses import dataclass


@dataclass
class Budget:
    """A budget of `limit` bytes.

    `received` counts the bytes of requests until they are answered, `going_out` the bytes of
    answers until they are sent.
    """

    limit: int
    received: int = 0
    going_out: int = 0
    freed: int = 0  # bytes of requests freed since memory was last returned to the system

    def free(self, count: int) -> None:
        """Take `count` bytes out of `received`."""
        self.received -= count
        self.freed += count

    @property
    def room(self) -> int:
        """Return the bytes that may still be received."""
        return self.limit - self.received - self.going_out
