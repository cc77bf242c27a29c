"""Connections that stay open between two requests, and which of them end to make way."""

import http.client
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from app.settings import Settings
from tests.e2e.conftest import PATIENCE, Service

Start = Callable[..., AbstractContextManager[Service]]
BEGUN = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"


def ask(client: http.client.HTTPConnection) -> int:
    client.request("GET", "/health/live")
    response = client.getresponse()
    response.read()
    return response.status


@contextmanager
def clients(service: Service, count: int) -> Iterator[list[http.client.HTTPConnection]]:
    """Each has been answered once, in their order."""
    with ExitStack() as stack:
        opened = []
        for _ in range(count):
            client = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE)
            stack.callback(client.close)
            assert ask(client) == 200
            opened.append(client)
        yield opened


def uploading(service: Service, stack: ExitStack) -> socket.socket:
    """A client whose upload has begun."""
    client = socket.create_connection(("127.0.0.1", service.port), PATIENCE)
    stack.enter_context(client)
    client.sendall(BEGUN + b"Expect: 100-continue\r\n\r\n")
    assert b"100 Continue" in client.recv(100)
    return client


def has_ended(client: http.client.HTTPConnection) -> bool:
    assert client.sock
    return client.sock.recv(1) == b""


def test_an_idle_connection_is_kept_longer_than_load_balancers_keep_theirs() -> None:
    assert Settings().keep_alive > 60


def test_an_idle_connection_is_kept_as_long_as_the_setting_says(start: Start) -> None:
    with start(workers=1, keep_alive=1) as service, clients(service, 1) as (client,):
        assert has_ended(client)
    with start(workers=1, keep_alive=30, read_timeout=1) as service, clients(service, 1) as kept:
        silent = socket.create_connection(("127.0.0.1", service.port), PATIENCE)
        with silent:
            assert silent.recv(1) == b""  # it never asked, and a second has passed
        client = kept[0]
        before = client.sock
        assert ask(client) == 200
        assert client.sock is before


def test_where_connections_run_short_the_longest_idle_one_ends_first(start: Start) -> None:
    with start(workers=1, max_connections=6) as service, ExitStack() as stack:
        busy = [uploading(service, stack) for _ in range(3)]  # older than those that idle
        first, second, third = stack.enter_context(clients(service, 3))
        assert ask(first) == 200  # now the second is idle for longest
        busy.append(uploading(service, stack))
        assert has_ended(second)
        busy.append(uploading(service, stack))
        assert has_ended(third)
        assert ask(first) == 200
        for client in busy:  # none of them was ended
            client.sendall(bytes(100))
            assert client.recv(100).startswith(b"HTTP/1.1 415 ")
