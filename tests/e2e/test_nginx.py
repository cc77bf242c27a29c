"""deploy/nginx.conf before a real service: what it lets through, and what it holds back."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import socketserver
import ssl
import subprocess
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.e2e.conftest import PATIENCE, ROOT, Service, free_port, running

DEPLOY = ROOT / "deploy"
SEVEN = (ROOT / "app/static/samples/mnist/seven.png").read_bytes()
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx (Debian: nginx-light) is missing")


@dataclass
class Front:
    """A running nginx."""

    port: int
    tls_port: int
    certificate: Path | None  # what a client must trust

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


Behind = Callable[..., AbstractContextManager[Front]]


def on_ports_of_its_own(text: str, port: int, tls_port: int) -> str:
    """A file of deploy/ whose servers listen on this machine alone."""
    for usual, free in ((80, port), (443, tls_port)):
        text = re.sub(rf"listen {usual}\b", f"listen 127.0.0.1:{free}", text)
        text = text.replace(f"listen [::]:{usual}", f"listen [::1]:{free}")
    return text


def configure(folder: Path, service: int, tls: bool) -> Front:
    """The files as they are in deploy/, on ports and in folders of the test's own."""
    front = Front(free_port(), free_port(), None)
    text = on_ports_of_its_own((DEPLOY / "nginx.conf").read_text(), front.port, front.tls_port)
    paths = "".join(
        f"    {kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    for old, new in (
        ("127.0.0.1:5000", f"127.0.0.1:{service}"),
        ("    access_log off;\n", f"    access_log off;\n{paths}"),
    ):
        assert old in text
        text = text.replace(old, new)
    user = "user root;\n" if os.geteuid() == 0 else ""
    text = f"{user}daemon off;\npid {folder}/pid;\nerror_log {folder}/log warn;\n{text}"
    (folder / "nginx.conf").write_text(text)
    if tls:
        front.certificate = switch_tls_on(folder, front)
    return front


def switch_tls_on(folder: Path, front: Front) -> Path:
    """Carry out what deploy/tls.conf says in its head; the certificate."""
    place = folder / "deploy"
    place.mkdir()
    text = on_ports_of_its_own((DEPLOY / "tls.conf").read_text(), front.port, front.tls_port)
    (place / "tls.conf").write_text(text)
    commands = re.findall(r"^#   (.+)$", text, re.M)
    assert [command.split()[0] for command in commands] == ["mkdir", "openssl"]
    for command in commands:
        subprocess.run(command, shell=True, cwd=folder, check=True, capture_output=True)
    (place / "tls").rename(folder / "tls")  # beside nginx.conf
    return folder / "tls/tls.crt"


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Behind:
    """nginx before a service on the given port."""

    @contextlib.contextmanager
    def start(service: int, tls: bool = False) -> Iterator[Front]:
        folder = tmp_path_factory.mktemp("nginx")
        front = configure(folder, service, tls)
        command = [NGINX, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "log"]
        with subprocess.Popen(command) as process:
            try:
                deadline = time.monotonic() + PATIENCE
                while time.monotonic() < deadline and process.poll() is None:
                    with contextlib.suppress(OSError):
                        socket.create_connection(("127.0.0.1", front.port)).close()
                        break
                    time.sleep(0.01)  # between two looks, not in place of one
                else:
                    pytest.fail((folder / "log").read_text())
                yield front
            finally:
                process.send_signal(signal.SIGTERM)

    return start


@pytest.fixture(scope="module")
def front(behind: Behind, service: Service) -> Iterator[Front]:
    with behind(service.port) as one:
        yield one


@pytest.fixture(scope="module")
def tls(
    behind: Behind,
) -> Iterator[Front]:
    with running(workers=1, proxies=1) as service, behind(service.port, tls=True) as one:
        yield one


def test_an_upload_through_nginx_is_answered(front: Front) -> None:
    with requests.Session() as session:
        for _ in range(3):
            answer = session.post(f"{front.url}/predict", files={"file": SEVEN}, timeout=PATIENCE)
            assert answer.json()["predictions"][0]["label"] == "7"


def test_what_a_client_says_of_proxies_is_not_passed_on(
    behind: Behind,
    start: Callable[..., AbstractContextManager[Service]],
) -> None:
    lies = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Prefix": "//evil.example"}
    with start(workers=1, proxies=1) as service, behind(service.port) as front:
        page = requests.get(f"{front.url}/demo", headers=lies, timeout=PATIENCE)
        spec = requests.get(f"{front.url}/swagger.json", headers=lies, timeout=PATIENCE)
    assert page.status_code == 200
    assert "evil" not in page.text
    assert spec.json()["basePath"] == "/"
    assert "evil" not in spec.text


def test_nginx_refuses_in_the_one_shape_of_errors(front: Front) -> None:
    url = f"{front.url}/predict"
    answer = requests.post(url, data=bytes(40_000_000), timeout=PATIENCE)
    assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (b"GET /health/live HTTP/1.1", 400, "bad_request"),  # no Host
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + 40_000 * b"a", 400, "bad_request"),
        (
            b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked",
            501,
            "unsupported_transfer_coding",
        ),
    ],
    ids=["no Host", "long header", "coding"],
)
def test_nginx_refuses_what_is_no_request_in_the_one_shape(
    front: Front, head: bytes, status: int, code: str
) -> None:
    with socket.create_connection(("127.0.0.1", front.port), PATIENCE) as client:
        client.sendall(head + b"\r\n\r\n")
        response = http.client.HTTPResponse(client)
        response.begin()
        assert (response.status, json.loads(response.read())["code"]) == (status, code)


def test_one_client_gets_no_more_connections_than_its_share(front: Front) -> None:
    unfinished = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
    url = f"{front.url}/health/live"
    with contextlib.ExitStack() as greedy:
        # More than its 64: one may be refused because an earlier request still ends.
        for _ in range(70):
            client = greedy.enter_context(
                socket.create_connection(("127.0.0.1", front.port), PATIENCE)
            )
            client.sendall(unfinished)
        deadline = time.monotonic() + PATIENCE
        while (answer := requests.get(url, timeout=PATIENCE)).ok and time.monotonic() < deadline:
            time.sleep(0.01)  # between two looks, not in place of one
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_connections")
    assert answer.headers["Retry-After"] == "1"


def test_a_service_that_is_away_is_told_to_be(
    behind: Behind,
) -> None:
    with behind(free_port()) as front:
        answer = requests.get(f"{front.url}/health/live", timeout=PATIENCE)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"


def test_a_thousand_idle_connections_and_slow_uploads_take_nothing_from_others(
    front: Front,
) -> None:
    with contextlib.ExitStack() as slow:
        for number in range(1000):
            client = slow.enter_context(
                socket.create_connection(("127.0.0.1", front.port), PATIENCE)
            )
            if number % 20 == 0:
                client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Le")
        for _ in range(20):
            answer = requests.post(f"{front.url}/predict", files={"file": SEVEN}, timeout=PATIENCE)
            assert answer.status_code == 200


def test_both_protocols_are_listened_on(front: Front) -> None:
    answer = requests.get(f"http://[::1]:{front.port}/health/live", timeout=PATIENCE)
    assert answer.status_code == 200


def test_one_client_sends_no_more_requests_a_second_than_its_share(behind: Behind) -> None:
    with running(workers=1) as service, behind(service.port) as front:
        url = f"{front.url}/health/live"
        with ThreadPoolExecutor(8) as callers:
            answers = list(callers.map(lambda _: requests.get(url, timeout=PATIENCE), range(600)))
        counted = Counter(answer.status_code for answer in answers)
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert set(counted) == {200, 429}
        assert counted[200] >= 200  # at once, and 50 a second
        assert refused.json()["code"] == "rate_limited"
        assert refused.headers["Retry-After"] == "1"
        deadline = time.monotonic() + PATIENCE
        while not requests.get(url, timeout=PATIENCE).ok:  # it may come back
            assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("addresses", "same"),
    [
        (("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"), True),
        (("2001:db8::1", "2001:db8::ffff:0:0:2"), True),
        (("2001:db8:0:1::1", "2001:db8:0:2::1"), False),
        (("2001:db8::1", "2001:db9::1"), False),
        (("192.0.2.1", "192.0.2.2"), False),
    ],
)
def test_the_addresses_of_one_ipv6_network_are_one_client(
    tmp_path: Path, addresses: tuple[str, str], same: bool
) -> None:
    """Asked of nginx: a server that tells whom it takes the address in a header for."""
    (the_map,) = re.findall(r"map \$remote_addr.*?\}\n", (DEPLOY / "nginx.conf").read_text(), re.S)
    port = free_port()
    (tmp_path / "nginx.conf").write_text(
        f"""daemon off; pid {tmp_path}/pid; error_log {tmp_path}/log; events {{}}
        http {{
            access_log off;
            {the_map}
            server {{
                listen 127.0.0.1:{port};
                set_real_ip_from 127.0.0.1;
                real_ip_header X-Real-IP;
                location / {{ return 200 $client; }}
            }}
        }}"""
    )
    command = [NGINX, "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "log"]
    with subprocess.Popen(command) as process:
        try:
            clients = [told(port, address) for address in addresses]
        finally:
            process.send_signal(signal.SIGTERM)
    assert (clients[0] == clients[1]) == same


def told(port: int, address: str) -> bytes:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return requests.get(
                f"http://127.0.0.1:{port}/", headers={"X-Real-IP": address}, timeout=PATIENCE
            ).content
        except requests.ConnectionError:
            assert time.monotonic() < deadline


class Dying(socketserver.BaseRequestHandler):
    """A service whose workers end with every picture: the connection closes without an answer."""

    def handle(self) -> None:
        while request := self.request.recv(100_000):
            self.server.asked.append(request.split(b" ")[0])
            if b"/health/live" not in request:
                return
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@pytest.fixture
def dying() -> Iterator[Any]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Dying) as server:
        server.daemon_threads = True
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_picture_that_ends_a_worker_is_not_sent_to_the_next(behind: Behind, dying: Any) -> None:
    with behind(dying.server_address[1]) as front:
        for _ in range(6):  # connections that nginx keeps are what it would try again for
            assert requests.get(f"{front.url}/health/live", timeout=PATIENCE).status_code == 200
        for number in range(1, 4):
            answer = requests.post(f"{front.url}/predict", data=SEVEN, timeout=PATIENCE)
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert dying.asked.count(b"POST") == number


def test_requests_over_tls_are_answered_and_the_service_knows_it(tls: Front) -> None:
    for host in ("localhost", "127.0.0.1", "[::1]"):
        url = f"https://{host}:{tls.tls_port}"
        answer = requests.post(
            f"{url}/predict", files={"file": SEVEN}, verify=str(tls.certificate), timeout=PATIENCE
        )
        assert answer.json()["predictions"][0]["label"] == "7"
        assert "Strict-Transport-Security" in answer.headers


def test_a_client_that_does_not_know_the_certificate_is_warned(tls: Front) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"https://127.0.0.1:{tls.tls_port}/health/live", timeout=PATIENCE)


def test_plain_http_is_led_to_tls(tls: Front) -> None:
    answer = requests.post(f"{tls.url}/predict?top=3", allow_redirects=False, timeout=PATIENCE)
    assert (answer.status_code, answer.headers["Location"]) == (
        308,
        "https://127.0.0.1/predict?top=3",
    )


@pytest.mark.parametrize(
    ("version", "taken"),
    [
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
def test_only_versions_of_tls_that_are_safe_are_spoken(
    tls: Front, version: ssl.TLSVersion, taken: bool
) -> None:
    context = ssl.create_default_context(cafile=str(tls.certificate))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TLS 1.1, which is the question
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", tls.tls_port), PATIENCE) as plain:
        if not taken:
            with pytest.raises(ssl.SSLError):
                context.wrap_socket(plain, server_hostname="localhost")
            return
        with context.wrap_socket(plain, server_hostname="localhost") as secured:
            assert secured.version() == version.name.replace("_", ".")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that other users may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up a part of its capabilities")
def test_the_capabilities_that_compose_leaves_are_enough(
    service: Service, open_folder: Path
) -> None:
    """With another user for the workers, as in the image, and a key that only its owner reads."""
    compose = [yaml.safe_load((ROOT / f"compose{kind}.yaml").read_text()) for kind in ("", ".tls")]
    left = [name for each in compose for name in each["services"]["nginx"]["cap_add"]]
    front = configure(open_folder, service.port, tls=True)
    text = (open_folder / "nginx.conf").read_text().replace("user root;", "user nobody nogroup;")
    (open_folder / "nginx.conf").write_text(text)
    os.chown(open_folder / "tls/tls.key", 12345, 12345)
    bounds = ",".join(["-all", *(f"+{name.lower()}" for name in left)])
    command = ["setpriv", f"--bounding-set={bounds}", "--inh-caps=-all", "--no-new-privs"]
    command += [
        NGINX,
        "-p",
        open_folder,
        "-c",
        open_folder / "nginx.conf",
        "-e",
        open_folder / "log",
    ]
    url = f"https://localhost:{front.tls_port}/predict"
    with subprocess.Popen(command) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while process.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(requests.ConnectionError):
                    # Large enough to go through a file of the workers.
                    files = {"file": SEVEN + bytes(1_000_000)}
                    answer = requests.post(
                        url, files=files, verify=str(front.certificate), timeout=PATIENCE
                    )
                    break
                time.sleep(0.01)  # between two looks, not in place of one
            else:
                pytest.fail((open_folder / "log").read_text())
        finally:
            process.send_signal(signal.SIGTERM)
    assert answer.json()["predictions"][0]["label"] == "7"
