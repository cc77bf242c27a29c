"""What a service under load keeps up, whatever is done to its workers, models and connections."""

import contextlib
import hashlib
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import requests
from onnx import TensorProto, helper, numpy_helper

from tests.e2e.conftest import PATIENCE, ROOT, Service

Start = Callable[..., AbstractContextManager[Service]]
SEVEN = (ROOT / "app/static/samples/mnist/seven.png").read_bytes()
LENET = ROOT / "weights/mnist/lenet/metaplastic"
HEAD = (
    "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
    f"Content-Length: {len(SEVEN)}\r\n\r\n"
).encode()


def ask(port: int) -> tuple[int, dict[str, str], bytes]:
    """One upload over a connection of its own: the status, headers and body of the answer."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        client.request("POST", "/predict", SEVEN, {"Content-Type": "image/png"})
        response = client.getresponse()
        return response.status, dict(response.headers), response.read()
    finally:
        client.close()


def connect(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), PATIENCE)


def everything(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Whether `condition` came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)  # between two looks, not in place of one
    return True


@contextlib.contextmanager
def load(service: Service, clients: int) -> Iterator[Counter[str]]:
    """Clients that ask one request after another; how many ended in which way."""
    outcomes: Counter[str] = Counter()
    over = threading.Event()

    def ask_on() -> None:
        while not over.is_set():
            try:
                outcomes[str(ask(service.port)[0])] += 1
            except (OSError, http.client.HTTPException) as error:
                outcomes[f"lost: {type(error).__name__}"] += 1

    threads = [threading.Thread(target=ask_on) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        assert wait_until(lambda: outcomes["200"] > 5 * clients)
        yield outcomes
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE)


def test_a_killed_worker_costs_its_own_requests_and_is_back_in_two_seconds(start: Start) -> None:
    with start(workers=2) as service, load(service, clients=4) as outcomes:
        before = service.workers
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        assert wait_until(lambda: len(service.workers - {victim}) == 2, seconds=2)
        answered = outcomes["200"]
        assert wait_until(lambda: outcomes["200"] > answered + 50)
    lost = {kind: count for kind, count in outcomes.items() if kind != "200"}
    assert sum(lost.values()) <= 4, outcomes  # of each client one, that the worker had taken up


@pytest.mark.slow
def test_a_worker_that_is_busy_for_longer_than_the_timeout_is_not_taken_for_hanging(
    start: Start,
) -> None:
    """It answers about a thousand images, which takes the network some seconds."""
    blob = {"binary_data_size": 1000 * 32 * 32 * 3}
    images = {"name": "images", "shape": [1000, 32, 32, 3], "datatype": "UINT8"}
    head = json.dumps({"inputs": [{**images, "parameters": blob}]}).encode()
    with start(workers=1, timeout=1, max_images=1000, int8="off") as service:
        before = service.workers
        answer = requests.post(
            f"{service.url}/v2/models/cifar10-deep-brainprop/infer",
            head + bytes(blob["binary_data_size"]),
            headers={"Inference-Header-Content-Length": str(len(head))},
            timeout=PATIENCE,
        )
        assert answer.status_code == 200
        assert service.workers == before


def test_sighup_under_load_swaps_the_models_and_loses_no_request(
    start: Start, tmp_path: Path
) -> None:
    (newest,) = (path.name for path in LENET.iterdir())
    shutil.copytree(LENET / newest, tmp_path / "repository" / "first")
    with start(workers=2, weights=tmp_path / "repository") as service:
        first = service.workers
        card = json.loads((LENET / newest / "card.json").read_text())
        version = card["version"] + 1
        following = tmp_path / "repository" / "second"
        shutil.copytree(LENET / newest, following)
        (following / "card.json").write_text(json.dumps({**card, "version": version}))
        with load(service, clients=4) as outcomes:
            service.process.send_signal(signal.SIGHUP)
            assert wait_until(lambda: len(service.workers) == 2 and not service.workers & first)
        assert set(outcomes) == {"200"}, outcomes
        assert json.loads(ask(service.port)[2])["version"] == version


def test_a_reload_of_a_broken_repository_leaves_the_models_as_they_were(
    start: Start, tmp_path: Path
) -> None:
    (newest,) = (path.name for path in LENET.iterdir())
    shutil.copytree(LENET / newest, tmp_path / "repository" / "only")
    with start(workers=1, weights=tmp_path / "repository") as service:
        first = service.workers
        (tmp_path / "repository" / "only" / "card.json").write_text("{")
        service.process.send_signal(signal.SIGHUP)
        assert wait_until(lambda: service.workers.isdisjoint(first))
        assert ask(service.port)[0] == 200
        broken = tmp_path / "repository" / "only" / "card.json"
        assert f"left out: {broken}: is not JSON" in service.stop()[1]


def put_hungry_model(folder: Path, architecture: str) -> None:
    """A model that answers like LeNet and needs 64 MiB for each image."""
    repeats = numpy_helper.from_array(np.array([1, 2**24 // 784], np.int64), "repeats")
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    row = numpy_helper.from_array(np.ones((1, 10), np.float32), "row")
    nodes = [
        helper.make_node("Flatten", ["image"], ["pixels"]),
        helper.make_node("Tile", ["pixels", "repeats"], ["many"]),
        helper.make_node("ReduceMax", ["many", "axes"], ["most"]),
        helper.make_node("MatMul", ["most", "row"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 28, 28, 1])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])
    graph = helper.make_graph(nodes, "hungry", [image], [logits], [repeats, axes, row])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    content = model.SerializeToString()
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)
    (published,) = LENET.glob("*/card.json")
    card = json.loads(published.read_text()) | {"architecture": architecture}
    card["files"] = {"model.onnx": hashlib.sha256(content).hexdigest()}
    (folder / "card.json").write_text(json.dumps(card))


def test_without_memory_a_worker_says_so_and_serves_on_what_it_can(
    start: Start, tmp_path: Path
) -> None:
    """A shortage ends the request that it comes in; a model that cannot be opened is left out."""
    (newest,) = LENET.iterdir()
    shutil.copytree(newest, tmp_path / "lenet")
    for architecture in ("opened", "unopened"):
        put_hungry_model(tmp_path / architecture, architecture)
    with start(workers=1, weights=tmp_path) as service:
        (worker,) = service.workers

        def classify(architecture: str) -> tuple[int, str]:
            url = f"{service.url}/api/mnist/{architecture}"
            answer = requests.post(url, files={"file": SEVEN}, timeout=PATIENCE)
            return answer.status_code, answer.json().get("code", "")

        for architecture in ("opened", "lenet"):
            assert classify(architecture) == (200, "")
        held = Path(f"/proc/{worker}/statm").read_text().split()[0]
        limit = int(held) * resource.getpagesize() + 32 * 2**20
        resource.prlimit(worker, resource.RLIMIT_AS, (limit, limit))
        assert classify("opened") == (503, "out_of_memory")
        assert classify("unopened") == (503, "model_unavailable")
        assert classify("lenet") == (200, "")
        ready = requests.get(f"{service.url}/health/ready", timeout=PATIENCE)
        assert ready.status_code == 200
        assert ready.json()["unavailable"] == ["unopened"]
        assert service.workers == {worker}
        assert "unopened/model.onnx: ONNX Runtime cannot run it" in service.stop()[1]


def test_what_is_too_much_is_refused_at_once_and_told_when_to_come_back(start: Start) -> None:
    """More connections than may wait, all with their request, while the one worker is away."""
    with start(workers=1, max_waiting=4) as service:
        (worker,) = service.workers
        os.kill(worker, signal.SIGSTOP)
        clients = [connect(service) for _ in range(20)]
        for client in clients:
            client.sendall(HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + SEVEN)
        os.kill(worker, signal.SIGCONT)
        answers = [everything(client) for client in clients]
        for client in clients:
            client.close()
    refused = [answer for answer in answers if b" 503 " in answer.partition(b"\r\n")[0]]
    served = [answer for answer in answers if b" 200 " in answer.partition(b"\r\n")[0]]
    assert len(refused) + len(served) == 20
    assert 4 <= len(served) <= 8
    for answer in refused:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"Retry-After: 1" in head
        assert json.loads(body)["code"] == "too_busy"
    # The newest are answered: they have waited least.
    assert b" 200 " in answers[-1].partition(b"\r\n")[0]


def drip(client: socket.socket, data: bytes, over: threading.Event) -> None:
    """Send a byte at a time until the test is over."""
    with contextlib.suppress(OSError):
        for number in range(len(data)):
            client.sendall(data[number : number + 1])
            if over.wait(0.02):
                return


@pytest.mark.parametrize("part", ["head", "body"])
def test_clients_that_send_a_byte_at_a_time_take_nothing_from_others(
    service: Service, part: str
) -> None:
    data = HEAD + SEVEN if part == "head" else SEVEN
    over = threading.Event()
    with contextlib.ExitStack() as slow:
        clients = [slow.enter_context(connect(service)) for _ in range(20)]
        if part == "body":
            for client in clients:
                client.sendall(HEAD)
        threads = [threading.Thread(target=drip, args=(c, data, over)) for c in clients]
        for thread in threads:
            thread.start()
        for _ in range(20):
            assert ask(service.port)[0] == 200
        over.set()
        for thread in threads:
            thread.join(PATIENCE)


def test_a_thousand_idle_connections_take_nothing_from_others(service: Service) -> None:
    with contextlib.ExitStack() as idle:
        for _ in range(1000):
            idle.enter_context(connect(service))
        for _ in range(20):
            assert ask(service.port)[0] == 200


def test_more_connections_than_may_be_open_end_the_oldest(start: Start) -> None:
    with start(workers=1, max_connections=10) as service, contextlib.ExitStack() as idle:
        clients = [idle.enter_context(connect(service)) for _ in range(20)]
        assert clients[0].recv(100) == b""  # closed to make room
        assert ask(service.port)[0] == 200


def test_a_request_that_does_not_come_is_told_so(start: Start) -> None:
    with start(workers=1, read_timeout=1) as service, connect(service) as client:
        client.sendall(HEAD + SEVEN[:10])
        head, _, body = everything(client).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 Request Timeout")
        assert json.loads(body)["code"] == "too_slow"
        with connect(service) as silent:
            assert everything(silent) == b""  # nothing was asked, and nothing is answered


@pytest.mark.parametrize("sent", [HEAD + SEVEN[:-1], HEAD, HEAD[:-10]], ids=len)
def test_a_request_that_ends_too_early_is_told_so(service: Service, sent: bytes) -> None:
    with connect(service) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        head, _, body = everything(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request")
    assert json.loads(body)["code"] == "incomplete_request"


def test_a_client_that_has_closed_its_half_is_answered(service: Service) -> None:
    with connect(service) as client:
        client.sendall(HEAD + SEVEN)
        client.shutdown(socket.SHUT_WR)
        assert everything(client).startswith(b"HTTP/1.1 200 OK")


def test_what_follows_a_body_is_the_next_request(service: Service) -> None:
    last = HEAD.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n") + SEVEN
    with connect(service) as client:
        client.sendall(HEAD + SEVEN + HEAD + SEVEN + last)
        assert everything(client).count(b"HTTP/1.1 200 OK") == 3
    with connect(service) as client:
        client.sendall(HEAD + SEVEN + b"and more than was announced\r\n\r\n")
        answers = everything(client)
    assert answers.startswith(b"HTTP/1.1 200 OK")
    assert b"HTTP/1.1 400 Bad Request" in answers


@pytest.mark.parametrize("length", ["0000000000000000042", "42"])
def test_a_body_is_no_request_however_its_length_is_written(service: Service, length: str) -> None:
    body = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n".ljust(42, b".")
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n"
    with connect(service) as client:
        client.sendall(f"{head}Content-Type: image/png\r\n\r\n".encode() + body)
        client.shutdown(socket.SHUT_WR)
        answers = everything(client)
    assert answers.startswith(b"HTTP/1.1 415 ")
    assert answers.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("length", ["9999999999999999", "9" * 5000])
def test_a_length_beyond_all_measure_is_too_large(service: Service, length: str) -> None:
    with connect(service) as client:
        client.sendall(f"POST /predict HTTP/1.1\r\nContent-Length: {length}\r\n\r\n".encode())
        client.shutdown(socket.SHUT_WR)
        assert everything(client).startswith(b"HTTP/1.1 413 ")


def test_unfinished_uploads_together_have_a_bound(start: Start) -> None:
    """Each within the limit of one request, and all of them beyond that of four."""
    head = HEAD.replace(str(len(SEVEN)).encode(), b"1048576")
    with start(workers=1, max_request_mib=1) as service, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(service)) for _ in range(12)]
        for client in clients:
            client.sendall(head + bytes(1_000_000))
            client.settimeout(0.2)
        refused = 0
        for client in clients:
            with contextlib.suppress(TimeoutError):
                refused += b"too_busy" in everything(client)
        assert 7 <= refused < 12
        assert ask(service.port)[0] == 200


CHUNKED = (
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked"
)


def chunks(data: bytes, size: int) -> bytes:
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_chunked_uploads_are_read_however_they_are_cut(service: Service, size: int) -> None:
    body = chunks(SEVEN, size)
    with connect(service) as client:
        client.sendall(CHUNKED + b"\r\nConnection: close\r\n\r\n")
        for start in range(0, len(body), 997):
            client.sendall(body[start : start + 997])
        assert everything(client).startswith(b"HTTP/1.1 200 OK")


def test_too_many_chunks_are_refused(service: Service) -> None:
    with connect(service) as client:
        client.sendall(CHUNKED + b"\r\n\r\n" + b"1\r\na\r\n" * 60_000)
        client.shutdown(socket.SHUT_WR)
        head, _, body = everything(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert json.loads(body)["code"] == "too_many_chunks"


@pytest.mark.parametrize("body", [b"no number\r\n", b"-5\r\nabc", b"5\r\nabcdefgh\r\n0\r\n\r\n"])
def test_broken_chunks_are_refused(service: Service, body: bytes) -> None:
    workers = service.workers
    with connect(service) as client:
        client.sendall(CHUNKED + b"\r\n\r\n" + body)
        client.shutdown(socket.SHUT_WR)
        assert everything(client).startswith(b"HTTP/1.1 400 ")
    assert workers <= service.workers


def test_a_client_that_reads_slowly_takes_nothing_from_others(service: Service) -> None:
    with contextlib.ExitStack() as slow:
        for _ in range(10):
            client = slow.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", service.port))
            client.sendall(b"GET /swagger.json HTTP/1.1\r\nHost: x\r\n\r\n" * 300)
        for _ in range(20):
            assert ask(service.port)[0] == 200


def test_sigterm_answers_who_is_connected_and_has_not_asked_yet(start: Start) -> None:
    with start(workers=1) as service, connect(service) as client:
        assert requests.get(f"{service.url}/health/live", timeout=PATIENCE).ok  # it has been seen
        service.process.terminate()
        client.sendall(HEAD + SEVEN)
        assert everything(client).startswith(b"HTTP/1.1 200 OK")
        assert service.process.wait(PATIENCE) == 0


def test_clients_that_vanish_in_the_middle_cost_nobody_a_worker(service: Service) -> None:
    workers = service.workers
    expecting = HEAD.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    for sent in (expecting, HEAD + SEVEN[:50], HEAD + SEVEN, HEAD[:20]):
        for _ in range(10):
            with connect(service) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.sendall(sent)  # closing resets the connection
    for _ in range(10):
        assert ask(service.port)[0] == 200
    assert workers <= service.workers


def test_kept_connections_leave_room_for_new_ones(start: Start) -> None:
    """Each of four clients has its next request sent before the last one's answer is read."""
    over = threading.Event()

    def keep_busy(service: Service) -> None:
        with connect(service) as client:
            client.sendall((HEAD + SEVEN) * 2)
            while not over.is_set() and client.recv(65536):
                client.sendall(HEAD + SEVEN)

    with start(workers=1) as service:
        busy = [threading.Thread(target=keep_busy, args=(service,)) for _ in range(4)]
        for thread in busy:
            thread.start()
        try:
            for _ in range(10):
                assert ask(service.port)[0] == 200
        finally:
            over.set()
            for thread in busy:
                thread.join(PATIENCE)
