"""The bytes that a worker holds for all its clients together."""

from dataclasses import dataclass


@dataclass
class Budget:
    """At most `limit` bytes.

    `received` are those of requests until they are answered, `going_out` those of answers until
    they are sent.
    """

    limit: int
    received: int = 0
    going_out: int = 0
    freed: int = 0  # bytes that were received, since the worker last gave memory back

    def free(self, count: int) -> None:
        """Count so many bytes as received no more."""
        self.received -= count
        self.freed += count

    @property
    def room(self) -> int:
        """Bytes that may still be received."""
        return self.limit - self.received - self.going_out
