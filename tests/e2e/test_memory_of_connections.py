"""What all connections together cost a worker: a bound, whatever they send or do not read."""

import contextlib
import http.client
import resource
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.e2e.conftest import PATIENCE, ROOT, Service

Start = Callable[..., AbstractContextManager[Service]]
SEVEN = (ROOT / "app/static/samples/mnist/seven.png").read_bytes()
MIB = 1024 * 1024
SCRIPT = "/swaggerui/swagger-ui-bundle.js"  # the largest answer to a small request: 1.4 MB
FLOOD = f"GET {SCRIPT} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 10_000
CHUNKED = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def with_body(size: int) -> bytes:
    head = f"GET {SCRIPT} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
    return head.encode() + bytes(size)


@contextlib.contextmanager
def clients(service: Service, count: int) -> Iterator[list[socket.socket]]:
    """Connections whose system takes little of an answer that the client does not read."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(PATIENCE)
            client.connect(("127.0.0.1", service.port))
            opened.append(client)
        yield opened


def send_until_answered(client: socket.socket, data: bytes) -> None:
    """Send as much of `data` as it takes for the answer to begin."""
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while not selector.select(PATIENCE)[0][1] & selectors.EVENT_READ:
            data = data[client.send(data, socket.MSG_DONTWAIT) :]
            if not data:
                selector.modify(client, selectors.EVENT_READ)
    assert client.recv(1) == b"H"


def send_until_nobody_takes_it(
    streams: dict[socket.socket, bytes], times: int, patience: float = 1.0
) -> int:
    """Send each client's bytes, at most so often, and read nothing. How many bytes were taken.

    Ends when no connection takes a byte for `patience` seconds.
    """
    total = 0
    left = {client: [memoryview(data)] * times for client, data in streams.items()}
    with selectors.DefaultSelector() as selector:
        for client in streams:
            client.setblocking(False)
            selector.register(client, selectors.EVENT_WRITE)
        while selector.get_map() and (ready := selector.select(patience)):
            for key, _ in ready:
                client = key.fileobj
                assert isinstance(client, socket.socket)
                try:
                    sent = client.send(left[client][0])
                except BlockingIOError:
                    continue
                except OSError:  # the service has ended it
                    selector.unregister(client)
                    continue
                total += sent
                left[client][0] = left[client][0][sent:]
                if not left[client][0]:
                    left[client].pop(0)
                if not left[client]:
                    selector.unregister(client)
    return total


def memory_mib(worker: int, kind: str) -> int:
    """VmRSS or VmHWM (the most so far) of a process."""
    lines = Path(f"/proc/{worker}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) // 1024


def ask(service: Service) -> int:
    """The status that one upload on a connection of its own gets."""
    client = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE)
    with contextlib.closing(client):
        client.request("POST", "/predict", SEVEN, {"Content-Type": "image/png"})
        return client.getresponse().status


@pytest.mark.slow
def test_two_thousand_that_pipeline_or_do_not_read_leave_a_worker_below_400_mib(
    start: Start,
) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    settings = {"workers": 1, "max_connections": 2000, "max_waiting": 2000}  # so that all are held
    with start(**settings) as service, clients(service, 2000) as opened:
        (worker,) = service.workers
        body = with_body(MIB)
        streams = {client: FLOOD if n % 2 else body for n, client in enumerate(opened)}
        for client, data in streams.items():  # one after another, so that each of them is answered
            send_until_answered(client, data)
        taken = send_until_nobody_takes_it(streams, times=3)
        print(f"\ntaken {taken // MIB} MiB, peak {memory_mib(worker, 'VmHWM')} MiB")
        assert ask(service) == 200
        assert service.workers == {worker}
        assert memory_mib(worker, "VmHWM") < 400


def test_a_connection_that_keeps_sending_requests_is_read_no_faster_than_answered(
    start: Start,
) -> None:
    over = threading.Event()
    with start(workers=1) as service, clients(service, 1) as (client,):
        (worker,) = service.workers
        before = memory_mib(worker, "VmHWM")

        def send() -> None:
            with contextlib.suppress(OSError):
                while not over.is_set():
                    client.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            answers = 0
            while answers < 1000:
                answers += client.recv(65536).count(b"HTTP/1.1 200 OK")
            assert ask(service) == 200
            print(f"\nbefore {before} MiB, peak {memory_mib(worker, 'VmHWM')} MiB")
            assert memory_mib(worker, "VmHWM") < before + 16
        finally:
            over.set()
            client.shutdown(socket.SHUT_RDWR)
            sender.join(PATIENCE)


@pytest.mark.slow
def test_a_body_is_freed_when_it_is_answered_though_the_answer_is_not_read(start: Start) -> None:
    settings = {"workers": 1, "max_request_mib": 8}
    with start(**settings) as service, clients(service, 40) as opened:
        (worker,) = service.workers
        before = memory_mib(worker, "VmHWM")
        body = with_body(8 * MIB - 100_000)
        for client in opened:  # one after another, so that each of them is answered
            send_until_nobody_takes_it({client: body}, times=3, patience=0.1)
        print(f"\nbefore {before} MiB, peak {memory_mib(worker, 'VmHWM')} MiB")
        assert ask(service) == 200
        # Four of the largest requests, one that is being answered, and what the allocator keeps.
        assert memory_mib(worker, "VmHWM") < before + 100


def test_what_connections_held_is_given_back(start: Start) -> None:
    """Many times what a worker may hold goes by, in every way that a connection may end."""
    upload = CHUNKED + b"%x\r\n" % 500_000 + bytes(500_000)
    streams = {
        "unfinished": upload,
        "answered, unread": with_body(500_000) * 2,
        "broken": upload + b"no end of the chunk",
        "too large": CHUNKED + b"%x\r\n" % (2 * MIB) + bytes(500_000),
        "answered": with_body(500_000).replace(b"Host: x", b"Host: x\r\nConnection: close"),
    }
    with start(workers=1, max_request_mib=1) as service:
        for data in streams.values():
            for _ in range(20):
                with clients(service, 1) as (client,), contextlib.suppress(OSError):
                    client.sendall(data)
                    client.shutdown(socket.SHUT_WR)
        # All but one of the requests that may be held at once, each unfinished, and a fourth whole.
        with clients(service, 3) as opened:
            for client in opened:
                client.sendall(with_body(900_000)[:-1])
            assert ask(service) == 200
            for client in opened:
                client.sendall(b"\0")
                assert client.recv(100).startswith(b"HTTP/1.1 200 OK")


def test_an_answer_that_is_not_read_waits_in_the_worker_and_not_in_the_kernel(
    service: Service,
) -> None:
    """What waits in the kernel would count for nobody's limit but the machine's."""
    with clients(service, 1) as (client,):
        client.sendall(FLOOD[: FLOOD.index(b"GET", 1)])
        assert client.recv(1) == b"H"
        assert ask(service) == 200
        assert unsent(client) < 400_000


def unsent(client: socket.socket) -> int:
    """Bytes that the service's kernel holds for `client`, a connection over IPv4."""
    # Both ports: other connections of this machine, to other services, may come from the same one.
    ends = (f":{client.getpeername()[1]:04X}", f":{client.getsockname()[1]:04X}")
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (queue,) = (row[4] for row in rows if row[1].endswith(ends[0]) and row[2].endswith(ends[1]))
    return int(queue.partition(":")[0], 16)
