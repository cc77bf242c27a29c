"""A system without epoll, as macOS is: gunicorn's threaded worker keeps the service's promises."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import requests

from app.web.keys import hash_of
from tests.e2e.conftest import PATIENCE, Service, environment, free_port, running_command
from tests.e2e.test_metrics import classified, classify, runtime_folder, scrape, wait_until
from tests.e2e.test_repository import put
from tests.e2e.test_start_and_stop import (
    FAR_CLIENTS,
    SEVEN,
    stop_under_load,
    stop_within_handshakes,
)

AS_ON_MACOS = Path(__file__).parent / "as_on_macos.py"
MODEL = "mnist-lenet-metaplastic"
ADMIN = {"X-API-Key": "root's"}


def start(*programs: Path, **settings: object) -> AbstractContextManager[Service]:
    port = free_port()
    command = [sys.executable, str(AS_ON_MACOS), *map(str, programs)]
    return running_command(command, port, environment(port=port, **settings))


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with start(max_request_mib=1, max_images=2) as one:
        yield one


def test_the_start_says_so_in_one_line() -> None:
    with start() as service:
        status, output = service.stop()
    assert status == 0
    lines = output.splitlines()
    assert [line for line in lines if "no epoll" in line] == lines[:1]
    assert "Traceback" not in output


def test_all_workers_count_as_one(service: Service) -> None:
    before = classified(scrape(service))
    for _ in range(12):
        classify(service, "seven")
    assert {classified(scrape(service)) for _ in range(12)} == {before + 12}


@pytest.mark.parametrize("chunked", [False, True])
def test_the_limits_hold(service: Service, chunked: bool) -> None:
    def body(data: bytes) -> bytes | Iterator[bytes]:
        return iter([data]) if chunked else data

    url, png = f"{service.url}/predict", {"Content-Type": "image/png"}
    answer = requests.post(url, data=body(SEVEN), headers=png, timeout=PATIENCE)
    assert answer.json()["predictions"][0]["label"] == "7"
    large = body(SEVEN + bytes(2_000_000))
    with contextlib.suppress(requests.ConnectionError):  # it is answered before all of it came
        answer = requests.post(url, data=large, headers=png, timeout=PATIENCE)
        assert answer.json()["code"] == "request_too_large"
    many = {"images": ["eA=="] * 3}
    assert requests.post(url, json=many, timeout=PATIENCE).json()["code"] == "too_many_images"


def test_a_rate_limit_holds_for_all_workers() -> None:
    with start(rate_limit="10/hour") as service:
        url = f"{service.url}/api/models"
        statuses = [requests.get(url, timeout=PATIENCE).status_code for _ in range(14)]
    assert statuses == [200] * 10 + [429] * 4


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_under_load_loses_no_request(workers: int) -> None:
    with start(workers=workers) as service:
        stop_under_load(service)


def test_clients_whose_handshake_ends_after_the_port_has_stopped_are_answered_too() -> None:
    with start(FAR_CLIENTS, workers=1, host="::") as service:
        stop_within_handshakes(service)


def test_a_stop_leaves_no_folder() -> None:
    with start() as service:
        folder = runtime_folder(service)
        assert folder.exists()
        service.stop()
    assert not folder.exists()


@pytest.mark.parametrize("how", ["load", "sighup"])
def test_a_new_version_is_served_after_a_reload(how: str, tmp_path: Path) -> None:
    repository, keys = tmp_path / "repository", tmp_path / "keys"
    put(repository, 1)
    keys.write_text(f"root admin {hash_of(ADMIN['X-API-Key'])}\n")

    def versions(service: Service) -> list[str]:
        url = f"{service.url}/v2/models/{MODEL}"
        found: list[str] = requests.get(url, headers=ADMIN, timeout=PATIENCE).json()["versions"]
        return found

    with start(weights=repository, keys=keys) as service:
        assert versions(service) == ["1"]
        put(repository, 2)
        old = service.workers
        if how == "load":
            url = f"{service.url}/v2/repository/models/{MODEL}/load"
            assert requests.post(url, headers=ADMIN, timeout=PATIENCE).status_code == 200
        else:
            os.kill(service.process.pid, signal.SIGHUP)
        wait_until(lambda: not old & service.workers and len(service.workers) == 2)
        assert [versions(service) for _ in range(6)] == [["1", "2"]] * 6
