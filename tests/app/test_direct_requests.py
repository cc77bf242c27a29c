"""Which requests are answered directly; what it answers is in tests/e2e/test_direct.py."""

import logging
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from gunicorn.config import Config
from werkzeug.test import create_environ, run_wsgi_app

from app import create_app
from app.server.budget import Budget
from app.server.connection import Connection
from app.server.direct import Direct
from app.settings import Settings
from tests.e2e.all_kinds import FORM, INFER, SEVEN, USUAL, request

LINE = b"POST /predict HTTP/1.1\r\n"
BROWSER = (
    "Connection: keep-alive",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36",
    'sec-ch-ua: "Chromium";v="140", "Not=A?Brand";v="24"',
    "Accept: */*",
    "Origin: http://localhost:5000",
    "Referer: http://localhost:5000/demo",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-US,en;q=0.9",
)


def is_taken(application: Flask, data: bytes) -> bool:
    """Return whether the request is answered; if not, nothing has been done."""
    worker = SimpleNamespace(
        closes=lambda connection: False,
        app=SimpleNamespace(application=application),
        cfg=Config(),
        log=logging.getLogger(),
        server_address=("127.0.0.1", 5000),
    )
    client, ours = socket.socketpair()
    with client:
        connection = Connection(ours, ("127.0.0.1", 1), 1 << 25, Budget(1 << 27))
        client.sendall(data)
        connection.receive(1 << 20)
        assert connection.complete
        taken = Direct(worker).answer(connection)
        if taken:
            connection.flush()
            assert client.recv(65536).startswith(b"HTTP/1.1 ")
        else:
            assert connection.received == data
        connection.close()
    return taken


@pytest.mark.parametrize(
    "data",
    [
        request("/predict", USUAL, FORM),
        request("/api/mnist/lenet?rule=backprop&top=5", USUAL, FORM, *BROWSER),
        request("/api/cifar10/lenet", SEVEN, "image/png", "Connection: close"),
        request("/predict", b'{"image": ""}', "application/json"),
        request("/predict?unknown=1", b"", None),
        request(INFER, b"{}", "application/octet-stream", "Inference-Header-Content-Length: 2"),
    ],
)
def test_what_programs_and_browsers_send_is_answered_directly(
    application: Flask, data: bytes
) -> None:
    assert is_taken(application, data)


@pytest.mark.parametrize(
    "data",
    [
        request("/predict", USUAL, FORM, "Expect: 100-continue"),
        request("/predict", USUAL, FORM, "Content-Encoding: gzip"),
        request("/predict", USUAL, FORM, "X-Forwarded-Prefix: /vision"),
        request("/predict", USUAL, FORM, "Host: again"),
        request("/predict", USUAL, FORM, "No space:x"),
        request("/predict", USUAL, FORM, protocol="1.0"),
        request("/predict", b"", FORM, method="PUT"),
        request("/api/mnist", USUAL, FORM),
        request("/predict", b"", FORM).replace(b"Length: 0", b"Length: +0"),
        LINE + b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        LINE + b"Host: x\r\nLatin: \xe9\r\n\r\n",
        LINE + b"\r\n",
        LINE + b"Host: a..b\r\n\r\n",
        LINE + b"Host: " + 64 * b"a" + b"\r\n\r\n",
    ],
)
def test_all_else_is_left_to_flask(application: Flask, data: bytes) -> None:
    assert not is_taken(application, data)


@pytest.mark.parametrize("settings", [{"direct": False}, {"rate_limit": "9/minute"}])
def test_it_is_off_by_its_setting_and_where_a_rate_is_limited(
    repository: Path, settings: dict[str, Any]
) -> None:
    application = create_app(Settings(weights=repository, **settings))
    assert not is_taken(application, request("/predict", USUAL, FORM))


def test_a_host_that_only_a_proxy_names_is_not_enough(repository: Path) -> None:
    application = create_app(Settings(weights=repository, proxies=1))
    named = b"X-Forwarded-Host: there.example\r\n"
    assert is_taken(application, LINE + b"Host: x\r\n" + named + b"\r\n")
    assert not is_taken(application, LINE + named + b"\r\n")


def test_a_scheme_of_websockets_is_left_to_flask(repository: Path) -> None:
    application = create_app(Settings(weights=repository, proxies=1))
    asked = [request("/predict", b"", None, f"X-Forwarded-Proto: {it}") for it in ("https", "wss")]
    assert [is_taken(application, data) for data in asked] == [True, False]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/predict"), ("PUT", "/predict"), ("GET", "/demo/mnist/lenet")]
)
def test_a_host_that_is_no_punycode_is_not_a_fault_of_the_service(
    application: Flask, method: str, path: str
) -> None:
    environ = create_environ(path, method=method)
    _, status, _ = run_wsgi_app(application, {**environ, "HTTP_HOST": "xn--0"})
    assert int(status[:3]) < 500
