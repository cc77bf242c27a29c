"""The connections that a worker looks after while it does something else, and who of them ends."""

import select
from collections.abc import Iterator

from app.budget import Budget
from app.connection import Connection, State

_ROOM = 1024 * 1024  # bytes that are freed when there is no room, so that it is rare


class Watch:
    """Connections by their file descriptor, and the poller that tells which of them are ready."""

    def __init__(self) -> None:
        self.poller = select.epoll()
        self.connections: dict[int, Connection] = {}

    def look(self, connection: Connection, events: int) -> None:
        """Look for `events` on a connection from now on, and for no others."""
        number = connection.sock.fileno()
        if not connection.polled:
            self.poller.register(number, events)
            self.connections[number] = connection
        elif connection.polled != events:
            self.poller.modify(number, events)
        connection.polled = events

    def forget(self, connection: Connection) -> None:
        """Look no more after a connection, which is still open."""
        if connection.polled:
            number = connection.sock.fileno()
            self.poller.unregister(number)
            del self.connections[number]
            connection.polled = 0

    def late(self, now: float) -> list[Connection]:
        """Those whose time is over."""
        return [one for one in self.connections.values() if one.deadline < now]

    def longest_idle(self) -> Connection:
        """The one that is between two requests for longest, or else the one that is stuck so."""

        def rank(connection: Connection) -> tuple[bool, bool, float]:
            state = connection.state
            return state is State.WAITING, state is not State.IDLE, connection.since

        return min(self.connections.values(), key=rank)

    def given_up(self, budget: Budget) -> Iterator[Connection]:
        """Yield connections to end, one at a time, until `budget` has room or none is left.

        First come answers that nobody reads, while they take more than half of the budget: the one
        without progress for longest first. Then come unfinished requests, the largest first. Whole
        requests stay: their turn is near.
        """
        unread = [c for c in self.connections.values() if c.state is State.WRITING]
        unread.sort(key=lambda connection: -connection.since)
        while unread and budget.room < _ROOM and budget.going_out > budget.limit // 2:
            yield unread.pop()
        unfinished = [c for c in self.connections.values() if c.state is State.READING]
        unfinished.sort(key=lambda connection: len(connection.received))
        while unfinished and budget.room < _ROOM:
            yield unfinished.pop()
