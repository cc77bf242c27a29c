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

    @property
    def room(self) -> int:
        """Bytes that may still be received."""
        return self.limit - self.received - self.going_out
