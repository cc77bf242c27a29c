"""Rate limits over real workers: in memory, in a real Redis, and where that goes away."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import requests
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from app.web.keys import hash_of
from tests.e2e.conftest import PATIENCE, Service, free_port

Start = Callable[..., AbstractContextManager[Service]]
FORWARDED = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}


def statuses(service: Service, count: int, path: str = "/api/models", **headers: str) -> list[int]:
    url = service.url + path
    return [requests.get(url, headers=headers, timeout=PATIENCE).status_code for _ in range(count)]


def test_all_workers_share_one_count_and_it_is_told_when_to_come_back(start: Start) -> None:
    with start(workers=2, rate_limit="7/hour") as service:
        assert statuses(service, 9) == [200] * 7 + [429] * 2
        refused = requests.get(f"{service.url}/api/models", timeout=PATIENCE)
        assert refused.json()["code"] == "rate_limited"
        assert 0 < int(refused.headers["Retry-After"]) <= 3600
        assert "7 per 1 hour" in refused.json()["message"]
        infer = requests.get(f"{service.url}/v2/models/x", timeout=PATIENCE)
        assert (infer.status_code, list(infer.json())) == (429, ["error"])
        # Probes and the documentation are for everybody.
        assert statuses(service, 3, "/health/ready") == [200] * 3
        # A caller cannot make itself another one.
        assert statuses(service, 1, **FORWARDED) == [429]


def test_only_who_is_refused_is_told_to_wait(start: Start) -> None:
    with start(workers=1, rate_limit="4/hour") as service:
        url = f"{service.url}/api/models"
        answer = requests.get(url, timeout=PATIENCE)
        limits = {name: answer.headers[f"X-RateLimit-{name}"] for name in ("Limit", "Remaining")}
        assert limits == {"Limit": "4", "Remaining": "3"}
        assert int(answer.headers["X-RateLimit-Reset"]) > time.time()
        others = [requests.get(f"{url}{more}", timeout=PATIENCE) for more in ("", "?x=1", "")]
        assert [other.status_code for other in others] == [200, 200, 200]
        assert not [one for one in (answer, *others) if "Retry-After" in one.headers]
        refused = requests.get(url, timeout=PATIENCE)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 3600


def test_addresses_behind_a_proxy_and_keys_are_counted_apart(start: Start, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"alice user {hash_of('a')}\nbob user {hash_of('b')}\n")
    with start(workers=2, rate_limit="2/hour", keys=keys) as service:
        assert statuses(service, 3, **{"X-API-Key": "a"}) == [200, 200, 429]
        assert statuses(service, 3, **{"X-API-Key": "b"}) == [200, 200, 429]
        assert '"key":"alice"' in service.log.read_text()
    with start(workers=1, rate_limit="2/hour", proxies=1) as service:
        assert statuses(service, 3, **FORWARDED) == [200, 200, 429]
        assert statuses(service, 1, **{"X-Forwarded-For": "203.0.113.10"}) == [200]
        # What a caller writes before its proxy is not believed.
        spoofed = {"X-Forwarded-For": "192.0.2.1, 203.0.113.9"}
        assert statuses(service, 1, **spoofed) == [429]
        assert '"address":"203.0.113.9"' in service.log.read_text()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A real Redis of the test's own: its URL, and its process."""
    if not shutil.which("redis-server"):
        pytest.skip("Debian's package redis-server is not installed")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    client = Redis(port=port)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            client.ping()
            break
        except RedisConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.01)  # between two looks
    client.close()
    yield f"redis://127.0.0.1:{port}/0", process
    process.kill()
    process.wait(PATIENCE)


@pytest.mark.slow
def test_two_services_share_a_redis_and_outlive_it(
    start: Start, redis: tuple[str, "subprocess.Popen[bytes]"]
) -> None:
    url, process = redis
    settings = {"workers": 1, "rate_limit": "4/hour", "redis": url}
    with start(**settings) as one, start(**settings) as other:
        assert statuses(one, 2) + statuses(other, 2) == [200] * 4
        assert statuses(one, 1) + statuses(other, 1) == [429] * 2
        process.kill()
        process.wait(PATIENCE)
        # Each counts for itself now; nobody is answered with a fault.
        assert statuses(one, 5) == [200] * 4 + [429]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("RATE_LIMIT", "many"),
        ("RATE_LIMIT", "0/minute"),
        ("REDIS", "localhost:6379"),
        ("CORS_ORIGINS", "example.org"),
        ("PROXIES", "-1"),
    ],
)
def test_a_bad_setting_is_a_clear_message(
    fail_to_start: Callable[..., "subprocess.CompletedProcess[str]"], setting: str, value: str
) -> None:
    result = fail_to_start(**{setting: value})
    assert result.returncode == 2
    assert result.stderr.startswith(f"METAPLASTIC_{setting}: expected ")
    assert len(result.stderr.splitlines()) == 1
