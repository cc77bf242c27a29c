"""What the service says of each request: one line on stdout, and nothing of what people send."""

import base64
import json
import os
import pty
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.conftest import PATIENCE, ROOT, Service, environment, free_port
from tests.e2e.digits import VERSION

Start = Callable[..., AbstractContextManager[Service]]
SEVEN = (ROOT / "app/static/samples/mnist/seven.png").read_bytes()


def lines(service: Service) -> list[dict[str, Any]]:
    return [json.loads(line) for line in service.log.read_text().splitlines() if line[:1] == "{"]


def line_of(service: Service, request_id: str) -> dict[str, Any]:
    (line,) = [line for line in lines(service) if line["request_id"] == request_id]
    return line


def test_a_request_leaves_one_line_of_json(service: Service) -> None:
    answer = requests.post(
        f"{service.url}/predict",
        data=SEVEN,
        headers={"Content-Type": "image/png", "X-Request-ID": "from-the-caller"},
        timeout=PATIENCE,
    )
    assert answer.headers["X-Request-ID"] == "from-the-caller"
    line = line_of(service, "from-the-caller")
    assert (line["method"], line["path"], line["status"]) == ("POST", "/predict", 200)
    assert (line["model"], line["version"]) == ("mnist-lenet-metaplastic", int(VERSION))
    assert (line["images"], line["bytes_in"]) == (1, len(SEVEN))
    assert line["bytes_out"] == len(answer.content)
    assert line["level"] == "info"
    assert set(line["stages"]) == {"wait", "read", "decode", "prepare", "infer", "answer"}
    assert sum(line["stages"].values()) - line["stages"]["wait"] <= line["milliseconds"]


@pytest.mark.parametrize("given", [None, "", "a b", 'x"y', "x" * 129, "caf\u00e9"])
def test_a_request_without_a_usable_id_is_given_one(service: Service, given: str | None) -> None:
    headers = {} if given is None else {"X-Request-ID": given.encode()}
    answer = requests.get(f"{service.url}/api/models", headers=headers, timeout=PATIENCE)
    found = answer.headers["X-Request-ID"]
    assert re.fullmatch("[0-9a-f]{32}", found)
    assert line_of(service, found)["path"] == "/api/models"


def test_an_error_leaves_its_code(service: Service) -> None:
    answer = requests.post(f"{service.url}/predict", timeout=PATIENCE)
    line = line_of(service, answer.headers["X-Request-ID"])
    assert (line["status"], line["level"], line["code"]) == (400, "warning", "missing_image")


def test_what_people_send_is_not_in_the_log(service: Service) -> None:
    secret = "patient-4711.png"
    encoded = base64.b64encode(SEVEN).decode()
    url = f"{service.url}/predict"
    requests.post(url, files={"file": (secret, SEVEN)}, timeout=PATIENCE)
    requests.post(url, files={secret: SEVEN}, timeout=PATIENCE)
    requests.post(f"{url}?nonsense={secret}", timeout=PATIENCE)
    requests.post(url, json={"image": encoded}, timeout=PATIENCE)
    requests.post(url, json={"image": "%" + encoded}, timeout=PATIENCE)
    tensor = "/v2/models/mnist-lenet-metaplastic/infer"
    requests.post(service.url + tensor, json={"inputs": encoded}, timeout=PATIENCE)
    log = service.log.read_text()
    assert secret not in log
    assert encoded[:40] not in log
    assert "\\u0089PNG" not in log


def test_probes_and_scrapes_leave_no_line(service: Service) -> None:
    for path in ("/health/live", "/v2/health/ready", "/metrics"):
        name = f"quiet{path}"
        headers = {"X-Request-ID": name}
        assert requests.get(service.url + path, headers=headers, timeout=PATIENCE).ok
        assert name not in service.log.read_text()


def test_a_higher_level_leaves_out_what_went_well(start: Start) -> None:
    with start(workers=1, log_level="warning") as service:
        requests.get(f"{service.url}/api/models", timeout=PATIENCE)
        requests.get(f"{service.url}/nowhere", timeout=PATIENCE)
        assert [line["path"] for line in lines(service)] == ["/nowhere"]


def test_on_a_terminal_the_line_is_for_people() -> None:
    port = free_port()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "wsgi.py"],
        cwd=ROOT,
        env=environment(port=port, workers=1),
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    try:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                requests.post(f"http://127.0.0.1:{port}/predict?sample=one", timeout=PATIENCE)
                break
            except requests.ConnectionError:
                time.sleep(0.01)  # between two looks
        shown = b""
        while b"/predict" not in shown:
            shown += os.read(ours, 4096)
    finally:
        process.terminate()
        process.wait(PATIENCE)
        os.close(ours)
    line = next(line for line in shown.decode().splitlines() if "/predict" in line)
    pattern = r"\d\d:\d\d:\d\d\.\d{3} 200 +[\d.]+ ms POST /predict mnist-lenet-metaplastic"
    assert re.fullmatch(pattern, line)


def test_a_log_that_nobody_reads_any_more_loses_no_request() -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "wsgi.py"],
        cwd=ROOT,
        env=environment(port=port, workers=1),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout
        while b"Serving on" not in process.stdout.readline():
            assert process.poll() is None
        process.stdout.close()
        url = f"http://127.0.0.1:{port}/predict?sample=one"
        assert requests.post(url, timeout=PATIENCE).status_code == 200
    finally:
        process.terminate()
        process.wait(PATIENCE)


def test_what_strangers_send_does_not_command_a_terminal(start: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(ROOT / "weights/mnist/lenet", repository / "mnist/lenet")
    (repository / "\x1b]0;owned\x07").mkdir()
    (repository / "\x1b]0;owned\x07/card.json").write_text("{")
    requested = (
        b"GET /%1b[2J\x9b2J HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\x1b[2J HTTP/9.9\x1b[2J\r\nHost: x\r\n\r\n",
        b"\x1b[2J / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\x1b[2J: y\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x1b[2J\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\x1b[2J\r\n",
    )
    with start(weights=repository, workers=1) as service:
        for request in requested:
            with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as client:
                client.sendall(request)
                client.shutdown(socket.SHUT_WR)
                assert client.recv(100)
        _, shown = service.stop()
    assert r"\x1b]0;owned\x07" in shown  # the folder is named
    assert "Invalid request from ip=127.0.0.1" in shown
    assert {character for character in shown if ord(character) < 32} == {"\n"}
    assert "\x9b" not in shown


def test_a_trace_does_not_command_a_terminal() -> None:
    script = (
        "import logging; from app.telemetry.logs import escape_commands; escape_commands()\n"
        "try: raise ValueError('\\x1b[2J')\n"
        "except ValueError: logging.exception('%s', '\\x1b[2J')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert r"ValueError: \x1b[2J" in done.stderr
    assert "\x1b" not in done.stderr
