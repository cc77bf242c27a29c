"""Classifications answered directly, and through Flask: the same answers, log lines and counts."""

import contextlib
import json
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from app.web.keys import HEADER, USER, hash_of
from tests.e2e.all_kinds import FORM, USUAL, of_all_kinds, request
from tests.e2e.conftest import PATIENCE, Service, running

DATE = re.compile(rb"\r\nDate: [^\r]*")
OURS = re.compile(rb"\r\nX-Request-ID: [0-9a-f]{32}\r")
TIMES = re.compile(r"_(bucket|sum|seconds|seconds_total)$")  # metrics that tell how long it took


def send(service: Service, data: bytes) -> bytes:
    """Return all that the service answers to `data`, sent by a client that then sends no more."""
    parts = []
    with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as client:
        with contextlib.suppress(OSError):  # refused before all of it was read
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while part := client.recv(65536):
                parts.append(part)
    return DATE.sub(b"", OURS.sub(b"\r\nX-Request-ID: ours\r", b"".join(parts)))


def log_lines(text: str) -> list[Any]:
    """Return the lines of a log, without what differs from time to time."""
    found: list[Any] = []
    for line in text.splitlines():
        if not line.startswith('{"time"'):
            found.append(re.sub(r"[0-9]{2,}", "N", line))  # dates, process ids, the port
        elif '"path":"/metrics"' not in line:
            content = json.loads(line)
            for name in ("time", "milliseconds"):
                del content[name]
            if re.fullmatch("[0-9a-f]{32}", content["request_id"]):
                content["request_id"] = "ours"
            content["stages"] = list(content.get("stages", ()))
            found.append(list(content.items()))  # in their order
    return found


def counts(service: Service) -> dict[str, float]:
    """Return what /metrics counts, but for times."""
    key = {HEADER: "secret"}
    text = requests.get(f"{service.url}/metrics", headers=key, timeout=PATIENCE).text
    return {
        f"{sample.name} {sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("metaplastic_") and not TIMES.search(sample.name)
    }


def plain(_: Path) -> tuple[dict[str, object], list[bytes]]:
    return {}, of_all_kinds()


def behind_a_proxy_with_keys(folder: Path) -> tuple[dict[str, object], list[bytes]]:
    """All requests but every fifth show a key."""
    keys = folder / "keys"
    keys.write_text(f"somebody {USER} {hash_of('secret')}\n")
    asked = [
        data if number % 5 == 0 else data.replace(b"\r\n", b"\r\nX-API-Key: secret\r\n", 1)
        for number, data in enumerate(of_all_kinds())
    ]
    return {"keys": keys, "proxies": 1, "cors_origins": "https://example.org"}, asked


@pytest.mark.parametrize("setting", [plain, behind_a_proxy_with_keys])
def test_direct_answers_log_lines_and_counts_are_those_of_flask(
    setting: Callable[[Path], tuple[dict[str, object], list[bytes]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "0")  # Flask's Allow is in the order of a set
    settings, asked = setting(tmp_path)
    answers, logs, counted = [], [], []
    for direct in ("on", "off"):
        with running(workers=1, direct=direct, **settings) as service:
            answers.append([send(service, data) for data in asked])
            counted.append(counts(service))
            logs.append(log_lines(service.stop()[1]))
    differing = [
        (data[:300], direct, through_flask)
        for data, direct, through_flask in zip(asked, *answers, strict=True)
        if direct != through_flask
    ]
    print(f"{len(asked) - len(differing)} of {len(asked)} answers are equal, byte for byte")
    assert not differing, "\n\n".join(map(str, differing))
    assert all(answers[0])
    assert logs[0] == logs[1]
    assert counted[0] == counted[1]
    assert len(asked) > 250


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("more", [(), ("Tab:\tx",)], ids=["direct", "through Flask"])
def test_requests_that_came_together_are_answered_when_the_worker_leaves(
    number: int, more: tuple[str, ...]
) -> None:
    asked = 200 * request("/predict", USUAL, FORM, *more)
    with running(workers=1) as service:
        with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as client:
            client.sendall(asked)
            found = client.recv(65536)
            service.process.send_signal(number)
            while found.count(b"HTTP/1.1 200 ") < 200 and (part := client.recv(65536)):
                found += part
        assert found.count(b"HTTP/1.1 200 ") == 200
