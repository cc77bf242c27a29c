"""The connections that a worker polls, and the choice of connections to close."""

import select
from collections.abc import Iterator

from app.server.budget import Budget
from app.server.connection import Connection, State

_ROOM = 1024 * 1024  # bytes to free at once; more than one read needs, so this happens rarely


class Watch:
    """A poller and its connections, by file descriptor."""

    def __init__(self) -> None:
        self.poller = select.epoll()
        self.connections: dict[int, Connection] = {}

    def look(self, connection: Connection, events: int) -> None:
        """Poll a connection for `events` from now on, and for no other events."""
        number = connection.sock.fileno()
        if not connection.polled:
            self.poller.register(number, events)
            self.connections[number] = connection
        elif connection.polled != events:
            self.poller.modify(number, events)
        connection.polled = events

    def forget(self, connection: Connection) -> None:
        """Stop polling a connection, which stays open."""
        if connection.polled:
            number = connection.sock.fileno()
            self.poller.unregister(number)
            del self.connections[number]
            connection.polled = 0

    def late(self, now: float) -> list[Connection]:
        """Return the connections whose deadline has passed."""
        return [one for one in self.connections.values() if one.deadline < now]

    def longest_idle(self) -> Connection:
        """Return the connection that has been idle longest between two requests.

        If none is idle, return the one that has made no progress for longest.
        """

        def rank(connection: Connection) -> tuple[bool, bool, float]:
            state = connection.state
            return state is State.WAITING, state is not State.IDLE, connection.since

        return min(self.connections.values(), key=rank)

    def given_up(self, budget: Budget) -> Iterator[Connection]:
        """Yield connections to close, one at a time, until `budget` has room or none is left.

        Answers that their clients do not read come first, as long as answers take more than half of
        the budget; the one without progress for longest is the first. Then come incomplete
        requests, the largest first. Complete requests stay, since they are answered soon.
        """
        unread = [c for c in self.connections.values() if c.state is State.WRITING]
        unread.sort(key=lambda connection: -connection.since)
        while unread and budget.room < _ROOM and budget.going_out > budget.limit // 2:
            yield unread.pop()
        unfinished = [c for c in self.connections.values() if c.state is State.READING]
        unfinished.sort(key=lambda connection: len(connection.received))
        while unfinished and budget.room < _ROOM:
            yield unfinished.pop()
