"""What a worker makes of a client's bytes, over a real pair of sockets."""

import socket
from collections.abc import Iterator

import pytest

from app.server.budget import Budget
from app.server.connection import MOST_CHUNKS, Connection

CHUNKED = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
LIMIT = 1024 * 1024  # bytes


@pytest.fixture
def budget() -> Budget:
    return Budget(4 * LIMIT)


@pytest.fixture
def pair(budget: Budget) -> Iterator[tuple[socket.socket, Connection]]:
    """A client, and its connection."""
    client, ours = socket.socketpair()
    ours.setblocking(False)
    connection = Connection(ours, ("127.0.0.1", 1), LIMIT, budget)
    with client:
        yield client, connection
    connection.close()


def test_a_chunk_counts_once_though_each_of_its_bytes_comes_alone(
    pair: tuple[socket.socket, Connection],
) -> None:
    client, connection = pair
    size = MOST_CHUNKS + 10_000
    for byte in CHUNKED + b"%x\r\n" % size + bytes(size):
        client.sendall(bytes([byte]))
        connection.receive(100)
        assert not connection.complete
    client.sendall(b"\r\n0\r\n\r\n")
    connection.receive(100)
    assert connection.complete
    assert not connection.too_large


def test_a_chunk_too_many_is_refused_as_soon_as_it_begins(
    pair: tuple[socket.socket, Connection],
) -> None:
    client, connection = pair
    client.sendall(CHUNKED)
    for count in range(MOST_CHUNKS + 1):
        assert not connection.complete
        client.sendall(b"1\r\n" if count == MOST_CHUNKS else b"1\r\na\r\n")
        connection.receive(100)
    assert connection.complete
    assert connection.too_chopped


def test_what_a_connection_holds_counts_until_it_is_given_back(
    pair: tuple[socket.socket, Connection], budget: Budget
) -> None:
    client, connection = pair
    first = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    client.sendall(first + b"GET /next")
    connection.receive(1000)
    assert budget.room == budget.limit - len(first) - 9
    assert connection.complete
    assert connection.take_body() == b"abc"
    assert budget.room == budget.limit - 9
    connection.answer(bytes(LIMIT))
    assert not connection.flush()  # more than the system takes at once
    assert budget.going_out == LIMIT
    while not connection.flush():
        client.recv(LIMIT)
    assert budget.going_out == 0
    connection.answer(bytes(LIMIT))
    connection.flush()
    connection.close()
    assert budget.room == budget.limit
