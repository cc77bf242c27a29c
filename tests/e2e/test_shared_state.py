"""What the workers share stays right whatever becomes of files, memory, workers and the clock."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import requests

from app.web.keys import hash_of
from tests.e2e.conftest import PATIENCE, ROOT, Service

Start = Callable[..., AbstractContextManager[Service]]
SEVEN = (ROOT / "app/static/samples/mnist/seven.png").read_bytes()
ADMIN, USER = {"X-API-Key": "root's"}, {"X-API-Key": "alice's"}
MODELS = ("mnist/lenet/metaplastic", "mnist/lenet/backprop", "cifar10/lenet/metaplastic")
SMALL = 1024 * 1024  # bytes of /dev/shm


def ask(service: Service, path: str = "/predict", **headers: str) -> int:
    """The status of a classification of our seven."""
    sent = {"Content-Type": "image/png", **headers}
    url = f"{service.url}{path}"
    return requests.post(url, SEVEN, headers=sent, timeout=PATIENCE).status_code


def get(service: Service, path: str, **headers: str) -> requests.Response:
    return requests.get(f"{service.url}{path}", headers=headers, timeout=PATIENCE)


def ready(service: Service) -> int:
    return get(service, "/health/ready").status_code


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # between two looks


def replace_worker(service: Service) -> None:
    """Kill the only worker, and wait for the next."""
    (worker,) = service.workers
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: bool(service.workers - {worker}) and answers(service))


def answers(service: Service) -> bool:
    with contextlib.suppress(requests.RequestException):
        return get(service, "/health/live").status_code == 200
    return False


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Three models: the default, its baseline, and one of another data set."""
    root = tmp_path / "repository"
    for name in MODELS:
        shutil.copytree(ROOT / "weights" / name, root / name)
    return root


def onnx(repository: Path, name: str) -> Path:
    (path,) = (repository / name).glob("*/model.onnx")
    return path


# A full /dev/shm


@pytest.fixture
def small_memory() -> list[str]:
    """What starts a service with a /dev/shm of its own, of 1 MiB."""
    apart = ["unshare", "-m", "sh", "-c"]
    mount = f"mount -t tmpfs -o size={SMALL} tmpfs /dev/shm"
    if not shutil.which("unshare") or subprocess.run([*apart, mount], check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    return [*apart, f'{mount} && exec "$@"', "sh"]


def fill(service: Service) -> None:
    """Leave not a byte of the service's /dev/shm."""
    shm = Path(f"/proc/{service.process.pid}/root/dev/shm")
    with contextlib.suppress(OSError), (shm / "filling").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    assert os.statvfs(shm).f_bavail == 0


def test_a_full_dev_shm_ends_no_process_and_is_told(start: Start, small_memory: list[str]) -> None:
    with start(before=small_memory, workers=2, rate_limit="1000/minute") as service:
        wait_until(lambda: len(service.workers) == 2)
        fill(service)
        workers = service.workers
        paths = ["/predict", "/api/cifar10/lenet", "/api/nothing", "/predict?top=99", "/v1/x"]
        found = Counter(ask(service, path) for path in paths * 20)
        assert found == {200: 40, 400: 20, 404: 40}
        assert service.workers == workers
        assert without_room(service) > 0
        assert "No space left on device" in service.log.read_text()
        # Workers that end and are replaced: their counts cannot be added up, and stay.
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        wait_until(lambda: len(service.workers - workers) == 2 and answers(service))
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "Handling signal: hup" in service.log.read_text())
        assert ask(service) == 200
        assert service.stop()[0] == 0


def without_room(service: Service) -> float:
    lines = get(service, "/metrics").text.splitlines()
    name = "metaplastic_metrics_without_room "
    return max(float(line.removeprefix(name)) for line in lines if line.startswith(name))


@pytest.mark.slow
def test_counts_go_on_when_there_is_room_again(start: Start, small_memory: list[str]) -> None:
    counted = 'metaplastic_predictions_total{label="7",model="mnist-lenet-metaplastic",'
    with start(before=small_memory, workers=1) as service:
        fill(service)
        replace_worker(service)  # the new one has no room for a file
        for _ in range(3):
            assert ask(service) == 200
        assert without_room(service) > 0
        assert counted not in get(service, "/metrics").text
        (Path(f"/proc/{service.process.pid}/root/dev/shm") / "filling").unlink()

        def is_counted() -> bool:
            assert ask(service, "/api/cifar10/lenet") == 200
            return counted in get(service, "/metrics").text and without_room(service) == 0

        wait_until(is_counted)
        (line,) = (x for x in get(service, "/metrics").text.splitlines() if x.startswith(counted))
        assert line.endswith(" 3.0")


@pytest.mark.slow
def test_many_addresses_fill_no_memory(start: Start, small_memory: list[str]) -> None:
    limits = {"rate_limit": "100/minute;2000/day", "proxies": 1}
    with start(before=small_memory, workers=1, **limits) as service:
        shm = Path(f"/proc/{service.process.pid}/root/dev/shm")
        with requests.Session() as session:

            def come_from(address: str) -> int:
                headers = {"X-Forwarded-For": address}
                url = f"{service.url}/v2"
                return session.get(url, headers=headers, timeout=PATIENCE).status_code

            assert come_from("192.0.2.1") == 200
            room = os.statvfs(shm).f_bavail
            found = Counter(come_from(f"2001:db8:{number:x}::{number:x}") for number in range(2000))
        assert found == {200: 2000}
        assert os.statvfs(shm).f_bavail == room


# Rate limits


def test_an_ipv6_caller_is_its_network(start: Start) -> None:
    with start(workers=2, rate_limit="3/hour", proxies=1) as service:

        def come_from(*addresses: str) -> list[int]:
            return [
                get(service, "/v2", **{"X-Forwarded-For": one}).status_code for one in addresses
            ]

        assert come_from(*(f"2001:db8::{n:x}" for n in range(5))) == [200] * 3 + [429] * 2
        assert come_from("2001:db8:0:1::1", "192.0.2.1", "192.0.2.2") == [200] * 3
        mapped = ["::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"]
        assert come_from(*mapped) == [200, 200, 429]


CLOCK = """
import time
from pathlib import Path

_real, _offset = time.time, Path({path!r})
time.time = lambda: _real() + float(_offset.read_text())
"""


@pytest.mark.slow
@pytest.mark.parametrize("change", [-86_400, 86_400])
def test_a_window_lasts_as_long_as_it_says_when_the_clock_is_set(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: int
) -> None:
    """The service's own idea of the time of day is moved: the machine's is everybody's."""
    offset = tmp_path / "offset"
    offset.write_text("0")
    (tmp_path / "sitecustomize.py").write_text(CLOCK.format(path=str(offset)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with start(workers=2, rate_limit="2/3 seconds") as service:
        assert [get(service, "/v2").status_code for _ in range(3)] == [200, 200, 429]
        began = time.monotonic()
        offset.write_text(str(change))
        refused = get(service, "/v2")
        if time.monotonic() < began + 2.5:
            assert refused.status_code == 429  # nor does it end before
            assert 0 <= int(refused.headers["Retry-After"]) <= 3
        wait_until(lambda: get(service, "/v2").status_code == 200)
        assert time.monotonic() - began < 6


# Keys


def keys_of(*names: str) -> str:
    roles = {"root": "admin", "alice": "user"}
    values = {"root": ADMIN["X-API-Key"], "alice": USER["X-API-Key"]}
    return "".join(f"{name} {roles[name]} {hash_of(values[name])}\n" for name in names)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(keys_of("root", "alice"))
    return path


def who(service: Service) -> list[int]:
    """What the admin and alice are answered."""
    return [get(service, "/api/models", **key).status_code for key in (ADMIN, USER)]


def test_a_revoked_key_stays_revoked_in_a_new_worker(
    start: Start, repository: Path, keys: Path
) -> None:
    with start(workers=1, weights=repository, keys=keys) as service:
        assert who(service) == [200, 200]
        keys.write_text(keys_of("root"))
        assert who(service) == [200, 401]
        with keys.open("a") as file:
            file.write("a line that is none\n")
        assert who(service) == [200, 401]
        replace_worker(service)
        assert who(service) == [200, 401]
        assert "keys line 2: expected `name role sha256`" in service.log.read_text()


@pytest.mark.parametrize("emptied", [True, False])
def test_an_emptied_or_deleted_file_of_keys_lets_nobody_in(
    start: Start, repository: Path, keys: Path, emptied: bool
) -> None:
    with start(workers=1, weights=repository, keys=keys) as service:
        assert who(service) == [200, 200]
        if emptied:
            keys.write_text("")
        else:
            keys.unlink()
        assert who(service) == [401, 401]
        replace_worker(service)
        assert who(service) == [401, 401]
        keys.write_text(keys_of("alice"))
        assert who(service) == [401, 200]


# Models


def test_a_reload_without_the_repository_changes_nothing(start: Start, repository: Path) -> None:
    paths = ["/predict", "/predict?rule=backprop", "/api/cifar10/lenet"]
    with start(workers=1, weights=repository) as service:
        workers = service.workers
        away = repository.with_name("away")
        repository.rename(away)
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the models stay as they were" in service.log.read_text())
        assert service.workers == workers
        assert [ask(service, path) for path in paths] == [200] * 3
        assert ready(service) == 200
        replace_worker(service)  # nor does a worker need the repository that is born now
        assert [ask(service, path) for path in paths] == [200] * 3
        away.rename(repository)
        reload(service)
        assert [ask(service, path) for path in paths] == [200] * 3


def test_what_was_hashed_is_what_answers(start: Start, repository: Path) -> None:
    url = "/api/cifar10/lenet?sample=frog"
    with start(workers=1, weights=repository) as service:
        right = requests.post(f"{service.url}{url}", timeout=PATIENCE).json()
    with start(workers=1, weights=repository) as service:
        other = onnx(repository, "mnist/lenet/metaplastic").read_bytes()
        for path in onnx(repository, "cifar10/lenet/metaplastic").parent.glob("*.onnx"):
            path.write_bytes(other)  # whichever of them runs
        answer = requests.post(f"{service.url}{url}", timeout=PATIENCE)  # opened now
        assert (answer.status_code, answer.json()) == (200, right)


def test_a_file_that_is_being_written_replaces_nothing_until_it_is_whole(
    start: Start, repository: Path
) -> None:
    """Both of a model that is served, and of one that is new."""
    old = onnx(repository, "mnist/lenet/metaplastic")
    new = old.parents[1] / str(int(old.parent.name) + 1)
    data = old.read_bytes()
    with start(workers=1, weights=repository) as service:
        shutil.copytree(old.parent, new)
        card = json.loads((new / "card.json").read_text())
        (new / "card.json").write_text(json.dumps({**card, "version": int(new.name)}))
        for path in (old, new / "model.onnx"):
            path.write_bytes(data[: len(data) // 2])
        reload(service)
        assert len(service.workers) == 1
        unavailable = get(service, "/health/ready").json()["unavailable"]
        assert sorted(unavailable) == sorted(
            str(p.relative_to(repository)) for p in (old.parent, new)
        )
        assert version(service) == int(old.parent.name)
        for path in (old, new / "model.onnx"):
            path.write_bytes(data)
        wait_until(lambda: version(service) == int(new.name))  # nobody has to say so
        assert get(service, "/health/ready").json()["unavailable"] == []


def version(service: Service) -> int:
    url = f"{service.url}/predict?sample=seven"
    with contextlib.suppress(requests.ConnectionError):  # of a worker that leaves
        return int(requests.post(url, timeout=PATIENCE).json()["version"])
    return 0


def test_a_model_for_which_there_was_no_memory_is_tried_again(
    start: Start, repository: Path
) -> None:
    with start(workers=1, weights=repository) as service:
        assert ask(service) == 200
        (worker,) = service.workers
        unlimited = resource.prlimit(worker, resource.RLIMIT_AS)
        resource.prlimit(worker, resource.RLIMIT_AS, (memory_of(worker) + 600_000, unlimited[1]))
        assert ask(service, "/api/cifar10/lenet") == 503
        resource.prlimit(worker, resource.RLIMIT_AS, unlimited)
        wait_until(lambda: ask(service, "/api/cifar10/lenet") == 200)
        assert service.workers == {worker}
        assert get(service, "/health/ready").json()["unavailable"] == []


def test_ready_means_that_the_default_model_can_answer(start: Start, repository: Path) -> None:
    path = onnx(repository, "mnist/lenet/backprop")
    shutil.rmtree(repository / "mnist/lenet/metaplastic")
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with start(workers=1, weights=repository, until="/health/live") as service:
        assert ask(service, "/api/cifar10/lenet") == 200
        assert ready(service) == 503
        assert get(service, "/v2/health/ready").status_code == 503
        assert ask(service) == 503  # not what another data set's model makes of it
        path.write_bytes(data)
        wait_until(lambda: ready(service) == 200)
        assert ask(service) == 200


def test_two_models_that_are_unloaded_at_once_are_both_gone(
    start: Start, repository: Path, keys: Path
) -> None:
    names = ["mnist-lenet-backprop", "cifar10-lenet-metaplastic"]

    def unload(service: Service, name: str) -> int:
        url = f"{service.url}/v2/repository/models/{name}/unload"
        return requests.post(url, headers=ADMIN, timeout=60).status_code

    with start(workers=2, weights=repository, keys=keys) as service:
        wait_until(lambda: len(service.workers) == 2)
        with ThreadPoolExecutor(2) as admins:
            found = list(admins.map(lambda name: unload(service, name), names))
        assert found == [200, 200]
        index = requests.post(
            f"{service.url}/v2/repository/index", headers=ADMIN, timeout=PATIENCE
        ).json()
        states = {(row["name"], row["state"]) for row in index}
        gone = {(name, "UNAVAILABLE") for name in names}
        assert states == {("mnist-lenet-metaplastic", "READY"), *gone}


def test_an_unload_that_cannot_be_noted_down_changes_nothing(
    start: Start, repository: Path, keys: Path, small_memory: list[str]
) -> None:
    with start(before=small_memory, workers=1, weights=repository, keys=keys) as service:
        fill(service)
        url = f"{service.url}/v2/repository/models/mnist-lenet-backprop/unload"
        answer = requests.post(url, headers=ADMIN, timeout=PATIENCE)
        assert answer.status_code == 503
        assert "Nothing has changed" in answer.json()["error"]
        assert ask(service, "/predict?rule=backprop", **ADMIN) == 200


def reload(service: Service) -> None:
    """SIGHUP, and wait until new workers have taken over."""
    workers = service.workers
    service.process.send_signal(signal.SIGHUP)
    wait_until(lambda: not workers & service.workers and answers(service))


@pytest.mark.parametrize("lacking", ["files", "memory"])
def test_new_workers_that_cannot_start_replace_nobody(
    start: Start, repository: Path, lacking: str
) -> None:
    """When the system has again what they need, a reload works."""
    with start(workers=1, weights=repository) as service:
        reload(service)
        master, workers = service.process.pid, service.workers
        if lacking == "files":
            what, most = resource.RLIMIT_NOFILE, len(list(Path(f"/proc/{master}/fd").iterdir()))
        else:
            what, most = resource.RLIMIT_AS, memory_of(master) + 20 * 1024 * 1024
        unlimited = resource.prlimit(master, what)
        resource.prlimit(master, what, (most, unlimited[1]))
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "new workers could not start" in service.log.read_text())
        wait_until(lambda: service.workers == workers)
        assert [ask(service), ready(service)] == [200, 200]
        resource.prlimit(master, what, unlimited)
        reload(service)
        assert ask(service) == 200


def memory_of(process: int) -> int:
    """Bytes that the process may address."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[0]) * resource.getpagesize()


def test_a_dead_worker_is_replaced_when_the_system_has_room_for_it(
    start: Start, repository: Path
) -> None:
    with start(workers=2, weights=repository) as service:
        wait_until(lambda: len(service.workers) == 2)
        master = service.process.pid
        unlimited = resource.prlimit(master, resource.RLIMIT_NOFILE)
        resource.prlimit(master, resource.RLIMIT_NOFILE, (3, unlimited[1]))
        for worker in service.workers:
            os.kill(worker, signal.SIGKILL)
        wait_until(lambda: "a worker could not start" in service.log.read_text())
        assert service.process.poll() is None
        resource.prlimit(master, resource.RLIMIT_NOFILE, unlimited)
        wait_until(lambda: len(service.workers) == 2 and answers(service))
        assert ask(service) == 200
