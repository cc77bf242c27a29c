"""deploy/nginx.conf before a real service: what it lets through, and what it holds back."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import requests

from tests.e2e.conftest import PATIENCE, ROOT, Service, free_port

SEVEN = (ROOT / "app/static/samples/mnist/seven.png").read_bytes()
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx (Debian: nginx-light) is missing")


def configuration(folder: Path, port: int, service: int) -> str:
    """The file as it is in deploy/, on ports and in folders of the test's own."""
    text = (ROOT / "deploy/nginx.conf").read_text()
    for old, new in (
        ("listen 80 ", f"listen 127.0.0.1:{port} "),
        ("127.0.0.1:5000", f"127.0.0.1:{service}"),
        (
            "    access_log off;\n",
            "    access_log off;\n"
            + "".join(
                f"    {kind}_temp_path {folder}/{kind};\n"
                for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            ),
        ),
    ):
        assert old in text
        text = text.replace(old, new)
    user = "user root;\n" if os.geteuid() == 0 else ""
    return f"{user}daemon off;\npid {folder}/pid;\nerror_log {folder}/log warn;\n{text}"


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], AbstractContextManager]:
    """nginx before a service on the given port; gives nginx's own port."""

    @contextlib.contextmanager
    def start(service: int) -> Iterator[int]:
        folder, port = tmp_path_factory.mktemp("nginx"), free_port()
        (folder / "nginx.conf").write_text(configuration(folder, port, service))
        command = [NGINX, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "log"]
        with subprocess.Popen(command) as process:
            try:
                deadline = time.monotonic() + PATIENCE
                while time.monotonic() < deadline and process.poll() is None:
                    with contextlib.suppress(OSError):
                        socket.create_connection(("127.0.0.1", port)).close()
                        break
                    time.sleep(0.01)  # between two looks, not in place of one
                else:
                    pytest.fail((folder / "log").read_text())
                yield port
            finally:
                process.send_signal(signal.SIGTERM)

    return start


@pytest.fixture(scope="module")
def port(behind: Callable[[int], AbstractContextManager[int]], service: Service) -> Iterator[int]:
    with behind(service.port) as one:
        yield one


def test_an_upload_through_nginx_is_answered(port: int) -> None:
    with requests.Session() as session:
        for _ in range(3):
            answer = session.post(
                f"http://127.0.0.1:{port}/predict", files={"file": SEVEN}, timeout=PATIENCE
            )
            assert answer.json()["predictions"][0]["label"] == "7"


def test_what_a_client_says_of_proxies_is_not_passed_on(
    behind: Callable[[int], AbstractContextManager[int]],
    start: Callable[..., AbstractContextManager[Service]],
) -> None:
    lies = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Prefix": "//evil.example"}
    with start(workers=1, proxies=1) as service, behind(service.port) as port:
        page = requests.get(f"http://127.0.0.1:{port}/demo", headers=lies, timeout=PATIENCE)
        spec = requests.get(f"http://127.0.0.1:{port}/swagger.json", headers=lies, timeout=PATIENCE)
    assert page.status_code == 200
    assert "evil" not in page.text
    assert spec.json()["basePath"] == "/"
    assert "evil" not in spec.text


def test_nginx_refuses_in_the_one_shape_of_errors(port: int) -> None:
    url = f"http://127.0.0.1:{port}/predict"
    answer = requests.post(url, data=bytes(40_000_000), timeout=PATIENCE)
    assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")
    assert answer.headers["Content-Type"] == "application/json"


def test_one_client_gets_no_more_connections_than_its_share(port: int) -> None:
    unfinished = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
    url = f"http://127.0.0.1:{port}/health/live"
    with contextlib.ExitStack() as greedy:
        # More than its 64: one may be refused because an earlier request still ends.
        for _ in range(70):
            client = greedy.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
            client.sendall(unfinished)
        deadline = time.monotonic() + PATIENCE
        while (answer := requests.get(url, timeout=PATIENCE)).ok and time.monotonic() < deadline:
            time.sleep(0.01)  # between two looks, not in place of one
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_connections")
    assert answer.headers["Retry-After"] == "1"


def test_a_service_that_is_away_is_told_to_be(
    behind: Callable[[int], AbstractContextManager[int]],
) -> None:
    with behind(free_port()) as port:
        answer = requests.get(f"http://127.0.0.1:{port}/health/live", timeout=PATIENCE)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"


def test_a_thousand_idle_connections_and_slow_uploads_take_nothing_from_others(port: int) -> None:
    with contextlib.ExitStack() as slow:
        for number in range(1000):
            client = slow.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
            if number % 20 == 0:
                client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Le")
        for _ in range(20):
            answer = requests.post(
                f"http://127.0.0.1:{port}/predict", files={"file": SEVEN}, timeout=PATIENCE
            )
            assert answer.status_code == 200
