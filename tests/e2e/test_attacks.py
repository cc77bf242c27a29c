"""A service with little memory, and every request that once cost a worker its life."""

import gzip
import http.client
import io
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import requests
from PIL import Image

from tests.app import attacks
from tests.e2e.conftest import PATIENCE, ROOT, Service, running
from tests.e2e.test_under_load import wait_until

Start = Callable[..., AbstractContextManager[Service]]
SEVEN = (ROOT / "app/static/samples/mnist/seven.png").read_bytes()
LITTLE = 512 * 1024 * 1024

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")


def below(pid: int) -> list[int]:
    """A process and all that it, and they, have started."""
    found = [pid]
    for one in found:
        found += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
    return found


@pytest.fixture(scope="module")
def little() -> Iterator[Service]:
    """One worker, each of whose processes has half a gibibyte of address space."""
    with running(workers=1) as service:
        (worker,) = service.workers
        for pid in below(worker):
            resource.prlimit(pid, resource.RLIMIT_AS, (LITTLE, LITTLE))
        yield service
        assert service.workers == {worker}


def send(service: Service, path: str, data: bytes, kind: str, **headers: str) -> tuple[int, str]:
    client = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    try:
        client.request("POST", path, data, {"Content-Type": kind, **headers})
        response = client.getresponse()
        return response.status, response.read().decode()
    finally:
        client.close()


def serves_the_usual(service: Service) -> bool:
    form = {"file": ("seven.png", SEVEN)}
    one = requests.post(f"{service.url}/predict", files=form, timeout=PATIENCE)
    status, _ = send(service, "/api/cifar10/lenet", SEVEN, "image/png")
    return (
        one.status_code == 200
        and one.json()["predictions"][0]["label"] == "7"
        and status == 200
        and requests.get(f"{service.url}/health/ready", timeout=PATIENCE).status_code == 200
    )


def most_held(pid: int) -> int:
    """The most KiB of memory that a process has held since it was last forgotten."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def test_blanks_in_base64_take_no_memory(start: Start) -> None:
    text = b'{"image":"' + b"AA " * (attacks.MOST // 3) + b'"}'
    with start(workers=1) as service:
        (worker,) = service.workers
        before = most_held(worker)
        status, answer = send(service, "/predict", text, "application/json")
        assert status == 400, answer
        assert most_held(worker) - before < 300 * 1024


@pytest.mark.parametrize("name", attacks.PICTURES)
def test_a_picture_that_took_a_worker_is_refused(little: Service, name: str) -> None:
    status, text = send(little, "/predict", attacks.PICTURES[name], "image/png")
    assert status == 400, text
    assert serves_the_usual(little)


@pytest.mark.parametrize("name", [*attacks.JSON, *attacks.WIDE_JSON])
def test_json_that_took_a_worker_is_refused(little: Service, name: str) -> None:
    path, text = {**attacks.JSON, **attacks.WIDE_JSON}[name]
    sent = gzip.compress(text, 6)
    assert len(sent) < 256 * 1024
    headers = {"Content-Encoding": "gzip"}
    status, answer = send(little, path, sent, "application/json", **headers)
    assert status == 413, answer
    assert serves_the_usual(little)


@pytest.mark.parametrize("name", attacks.GZIP)
def test_a_body_of_joined_files_is_refused(little: Service, name: str) -> None:
    headers = {"Content-Encoding": "gzip"}
    status, answer = send(little, "/predict", attacks.GZIP[name], "image/png", **headers)
    assert status == 413, answer
    assert serves_the_usual(little)


def test_a_form_of_small_pictures_that_are_dear_is_refused_at_the_first(little: Service) -> None:
    one = attacks.PICTURES["BMP with RLE8"]
    files = [("file", (f"{number}.bmp", one)) for number in range(100)]
    response = requests.post(f"{little.url}/predict", files=files, timeout=PATIENCE)
    assert (response.status_code, response.json()["index"]) == (400, 0)
    assert serves_the_usual(little)


def test_the_processes_that_decode_hold_nothing_of_the_workers(start: Start) -> None:
    """So that a port and a connection are closed when the worker closes them."""
    with start(workers=1) as service:
        (worker,) = service.workers
        _, *decoding = below(worker)
        assert len(decoding) == 2  # a nursery and a spare one; with a picture comes a helper
        assert send(service, "/predict", gif_of_seven(), "image/gif")[0] == 200
        _, *decoding = below(worker)
        assert len(decoding) == 3
        for pid in decoding:
            targets = [str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()]
            assert sum(target.startswith("socket:") for target in targets) == 1, targets
            others = {t for t in targets if not t.startswith(("socket:", "pipe:"))}
            assert others <= {"/dev/null"}, targets
            assert sum(target.startswith("pipe:") for target in targets) <= 1, targets


def test_a_worker_takes_its_decoders_with_it(start: Start) -> None:
    with start(workers=1) as service:
        (worker,) = service.workers
        decoding = below(worker)[1:]
        assert serves_the_usual(service)
        assert service.stop()[0] == 0
    assert wait_until(lambda: all(map(ended, decoding)))


def gif_of_seven() -> bytes:
    """A picture that is decoded apart."""
    gif = io.BytesIO()
    Image.open(io.BytesIO(SEVEN)).convert("L").save(gif, "GIF")
    return gif.getvalue()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("whose", ["worker", "master"])
def test_decoders_that_are_stopped_end_with_the_worker(
    start: Start, whose: str, number: signal.Signals
) -> None:
    with start(workers=1) as service:
        (worker,) = service.workers
        assert send(service, "/predict", gif_of_seven(), "image/gif")[0] == 200
        decoding = below(worker)[1:]
        for pid in decoding:
            os.kill(pid, signal.SIGSTOP)
        os.kill(worker if whose == "worker" else service.process.pid, number)
        assert wait_until(lambda: all(map(ended, [worker, *decoding])))


def test_a_nursery_that_is_killed_has_a_successor_that_is_ready(start: Start) -> None:
    """The spare one, which the same system call has made: no interpreter has to start."""
    with start(workers=1) as service:
        (worker,) = service.workers
        nursery, spare = below(worker)[1:]
        os.kill(nursery, signal.SIGKILL)
        assert send(service, "/predict", gif_of_seven(), "image/gif")[0] == 200
        assert len(below(spare)) == 2  # it has a helper


def ended(pid: int) -> bool:
    """Whether a process is gone, or waits only to be noticed by its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
