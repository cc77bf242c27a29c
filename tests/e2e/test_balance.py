"""Clients that stay connected, and the workers that they stay with."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests.e2e.all_kinds import FORM, USUAL, request
from tests.e2e.conftest import PATIENCE, Service

Start = Callable[..., AbstractContextManager[Service]]
ASK = request("/predict", USUAL, FORM)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def connections(pid: int) -> int:
    """Return how many sockets a process has open."""
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += str(entry.readlink()).startswith("socket:")
        except FileNotFoundError:
            continue
    return found


def both(service: Service) -> list[int]:
    """Return the two workers; the first may answer before the second is there."""
    deadline = time.monotonic() + PATIENCE
    while len(workers := sorted(service.workers)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    return workers


def connect(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), PATIENCE)


def answer(client: socket.socket) -> bytes:
    """Return the head of an answer, read with its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = client.recv(65536)
        assert part, "no answer"
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    size = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    while len(body) < size:
        body += client.recv(65536)
    assert head.startswith(b"HTTP/1.1 200 "), head
    return head


def test_busy_clients_of_one_worker_are_spread_over_both(start: Start) -> None:
    with start(workers=2, max_waiting=50) as service, ExitStack() as stack:
        _, empty = both(service)
        before = connections(empty)
        clients: list[socket.socket] = []

        def ask_all() -> None:
            for client in clients:
                client.sendall(ASK)
            for place, client in enumerate(clients):
                if b"\r\nConnection: close" in answer(client):
                    clients[place] = stack.enter_context(connect(service))

        os.kill(empty, signal.SIGSTOP)  # the other alone can take them up
        clients += [stack.enter_context(connect(service)) for _ in range(6)]
        ask_all()
        os.kill(empty, signal.SIGCONT)
        deadline = time.monotonic() + PATIENCE
        while connections(empty) < before + 2 and time.monotonic() < deadline:
            ask_all()
        assert connections(empty) >= before + 2


def test_a_stopped_worker_keeps_no_client_waiting(start: Start) -> None:
    """It has been idle; the other is always busy, with too few connections to close one."""
    with start(workers=2) as service, ExitStack() as stack:
        busy, stopped = both(service)
        os.kill(busy, signal.SIGSTOP)
        for _ in range(3):  # the other alone can take them up
            client = stack.enter_context(connect(service))
            client.sendall(ASK)
            answer(client)
        time.sleep(0.5)
        os.kill(stopped, signal.SIGSTOP)
        os.kill(busy, signal.SIGCONT)
        over = threading.Event()

        def ask_on() -> None:
            while not over.is_set():
                with connect(service) as client:
                    head = b""
                    while not over.is_set() and b"\r\nConnection: close" not in head:
                        client.sendall(ASK)
                        head = answer(client)

        threads = [threading.Thread(target=ask_on) for _ in range(4)]
        try:
            for thread in threads:
                thread.start()
                time.sleep(0.2)
            began = time.monotonic()
            for _ in range(3):
                with connect(service) as client:
                    client.sendall(ASK)
                    answer(client)
            assert time.monotonic() - began < 10  # the master would replace it after 30
        finally:
            over.set()
            os.kill(stopped, signal.SIGCONT)
            for thread in threads:
                thread.join()


def test_a_client_that_has_sent_more_gets_all_its_answers(start: Start) -> None:
    """While another worker is idle, and this one has five connections."""
    with start(workers=2, max_waiting=50) as service, ExitStack() as stack:
        _, idle = both(service)
        os.kill(idle, signal.SIGSTOP)
        clients = [stack.enter_context(connect(service)) for _ in range(5)]
        for client in clients:
            client.sendall(ASK)
            answer(client)
        os.kill(idle, signal.SIGCONT)
        time.sleep(1.5)  # it notes that it is idle
        for client in clients:
            client.sendall(4 * ASK)
        for client in clients:
            found, deadline = b"", time.monotonic() + PATIENCE
            while found.count(b"HTTP/1.1 200 ") < 4 and time.monotonic() < deadline:
                part = client.recv(65536)
                assert part, f"only {found.count(b'HTTP/1.1 200 ')} of 4 answers"
                found += part
