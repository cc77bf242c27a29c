"""HTTP as its standard has it, where the worker and not the application speaks it."""

import gzip
import json
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from tests.e2e.conftest import PATIENCE, ROOT, Service

Start = Callable[..., AbstractContextManager[Service]]
SEVEN = (ROOT / "app/static/samples/mnist/seven.png").read_bytes()
UPLOAD = "Host: x\r\nContent-Type: image/png\r\n"
SECURITY = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "deny",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


def connect(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), PATIENCE)


def everything(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


def told(answer: bytes) -> tuple[str, dict[str, str], str]:
    """The status, headers and code of a refusal."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return status.partition(" ")[2], headers, json.loads(body)["code"]


def send(service: Service, data: str | bytes) -> bytes:
    """The answer to a client that sends `data` and no more."""
    with connect(service) as client:
        client.sendall(data.encode() if isinstance(data, str) else data)
        client.shutdown(socket.SHUT_WR)
        return everything(client)


@pytest.mark.parametrize(("version", "told"), [("1.0", b""), ("1.1", b"HTTP/1.1 100 Continue")])
def test_only_who_speaks_http_1_1_is_told_to_continue(
    service: Service, version: str, told: bytes
) -> None:
    head = f"POST /predict HTTP/{version}\r\n{UPLOAD}Content-Length: {len(SEVEN)}\r\n"
    with connect(service) as client:
        client.sendall(f"{head}Expect: 100-continue\r\nConnection: close\r\n\r\n".encode())
        if told:
            assert client.recv(100).startswith(told)
        else:  # the worker has seen the head when it has answered another client
            assert send(service, "GET /health/live HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200")
        client.sendall(SEVEN)
        answer = everything(client)
    assert answer.startswith(f"HTTP/{version} 200 OK".encode())
    assert b"100 Continue" not in answer


@pytest.mark.parametrize("coding", ["gzip, chunked", "deflate, chunked", "br, chunked"])
def test_a_body_with_a_transfer_coding_is_not_taken_for_plain(
    service: Service, coding: str
) -> None:
    body = gzip.compress(SEVEN)
    head = f"POST /predict HTTP/1.1\r\n{UPLOAD}Transfer-Encoding: {coding}\r\n\r\n"
    answer = send(service, head.encode() + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    status, headers, code = told(answer)
    assert status == "501 Not Implemented"
    assert code == "unsupported_transfer_coding"
    assert headers["connection"] == "close"


def test_http_1_1_without_a_host_is_refused(service: Service) -> None:
    assert told(send(service, "GET /health/live HTTP/1.1\r\n\r\n"))[::2] == (
        "400 Bad Request",
        "missing_host",
    )
    assert send(service, "GET /health/live HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 OK")
    empty = send(service, "GET /health/live HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n")
    assert empty.startswith(b"HTTP/1.1 200 OK")  # of a target that has none


def test_a_chunk_that_comes_a_byte_at_a_time_is_read(service: Service) -> None:
    size = 5000
    with connect(service) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = f"POST /predict HTTP/1.1\r\n{UPLOAD}Transfer-Encoding: chunked\r\n"
        client.sendall(f"{head}Connection: close\r\n\r\n{size:x}\r\n".encode())
        for byte in SEVEN.ljust(size, b"\0"):
            client.sendall(bytes([byte]))
        client.sendall(b"\r\n0\r\n\r\n")
        assert everything(client).startswith(b"HTTP/1.1 200 OK")


TOO_LARGE = f"POST /predict HTTP/1.1\r\n{UPLOAD}Content-Length: 99999999999\r\n\r\n"
TOO_SMALL_CHUNKS = f"POST /predict HTTP/1.1\r\n{UPLOAD}Transfer-Encoding: chunked\r\n\r\n" + (
    "1\r\na\r\n" * 50_001
)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (TOO_LARGE, "413 Request Entity Too Large"),
        (TOO_SMALL_CHUNKS, "413 Request Entity Too Large"),
        ("POST /predict HTTP/1.1\r\n", "400 Bad Request"),
        ("GET /health/live HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ("NOT HTTP\r\n\r\n", "400 Bad Request"),
    ],
    ids=["too large", "too many chunks", "incomplete", "no host", "not HTTP"],
)
def test_what_the_worker_refuses_has_the_security_headers(
    service: Service, sent: str, status: str
) -> None:
    found, headers, _ = told(send(service, sent))
    assert found == status
    assert headers | SECURITY == headers


def test_too_slow_and_too_busy_have_the_security_headers(start: Start) -> None:
    begun = f"POST /predict HTTP/1.1\r\n{UPLOAD}Content-Length: 1000000\r\n\r\n".encode()
    with start(workers=1, read_timeout=1, max_request_mib=1) as service:
        with connect(service) as slow:
            slow.sendall(begun)
            status, headers, _ = told(everything(slow))
        assert status == "408 Request Timeout"
        assert headers | SECURITY == headers
        clients = [connect(service) for _ in range(6)]  # more than the four that have room
        for client in clients:
            client.sendall(begun + bytes(999_999))
        answers = [told(everything(client)) for client in clients]
        for client in clients:
            client.close()
        assert {status for status, _, _ in answers} == {
            "503 Service Unavailable",
            "408 Request Timeout",
        }
        assert all(headers | SECURITY == headers for _, headers, _ in answers)
