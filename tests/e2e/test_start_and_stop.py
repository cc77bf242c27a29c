"""Starting, refusing to start, and stopping without losing anybody."""

import contextlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import requests
from PIL import Image

from tests.e2e.conftest import (
    PATIENCE,
    ROOT,
    Service,
    environment,
    free_port,
    running_command,
)

Start = Callable[..., AbstractContextManager[Service]]
FailToStart = Callable[..., "subprocess.CompletedProcess[str]"]
CLIENTS = 8
FAR_CLIENTS = Path(__file__).parent / "as_far_clients_find_it.py"
SEVEN = (ROOT / "app/static/samples/mnist/seven.png").read_bytes()


def memory(pid: int) -> dict[str, float]:
    """Rss and Pss of a process in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    values = {line.split(":")[0]: int(line.split()[1]) / 1000 for line in lines}
    return {name: values[name] for name in ("Rss", "Pss")}


def test_a_start_prints_what_is_served_and_is_quick(start: Start) -> None:
    with start() as service:
        sizes = [memory(pid) for pid in service.workers]
        print(f"\nready after {service.seconds_to_ready:.2f} s; workers (MB): {sizes}")
        used = sum(map(cpu_seconds, [service.process.pid, *service.workers]))
        assert used < 5  # of processor time: the machine may be busy with other tests
        assert all(size["Pss"] < 120 for size in sizes)
        status, output = service.stop()
    assert status == 0
    assert "/api/mnist/lenet" in output
    assert f"http://localhost:{service.port}" in output
    assert "Traceback" not in output


def test_a_taken_port_is_a_clear_message(service: Service, fail_to_start: FailToStart) -> None:
    result = fail_to_start(port=service.port)
    assert result.returncode == 2
    assert f"Cannot listen on 127.0.0.1 port {service.port}" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_bad_setting_is_a_clear_message(fail_to_start: FailToStart) -> None:
    result = fail_to_start(port="abc")
    message = "METAPLASTIC_PORT: expected a whole number from 1 to 65535, found 'abc'\n"
    assert (result.returncode, result.stderr) == (2, message)


def test_a_misspelt_setting_stops_the_start(fail_to_start: FailToStart) -> None:
    result = fail_to_start(prot=8080)
    message = "METAPLASTIC_PROT: there is no such setting; the nearest is METAPLASTIC_PORT\n"
    assert (result.returncode, result.stderr) == (2, message)


def test_a_cloud_platforms_port_is_listened_on_and_printed() -> None:
    port = free_port()
    variables = environment(host="", port="") | {"PORT": str(port)}
    with running_command([sys.executable, "wsgi.py"], port, variables) as service:
        status, output = service.stop()
    assert status == 0
    assert (
        f"METAPLASTIC_PORT is not set, so PORT is used: listening on 0.0.0.0 port {port}.\n"
        in output
    )


def test_the_containers_health_check_asks_at_a_cloud_platforms_port(service: Service) -> None:
    (command,) = re.findall(
        r"^HEALTHCHECK .* CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.M
    )
    for port, status in ((service.port, 0), (free_port(), 1)):
        variables = environment(port="") | {"PORT": str(port)}
        done = subprocess.run(json.loads(command), env=variables, check=False, capture_output=True)
        assert done.returncode == status


def test_every_interface_of_either_protocol_may_be_written_in_brackets(start: Start) -> None:
    with start(host="[::]", workers=1) as service:  # which is asked at 127.0.0.1
        answer = requests.get(f"http://[::1]:{service.port}/health/live", timeout=PATIENCE)
    assert answer.status_code == 200


def test_a_port_that_is_taken_on_one_protocol_is_taken(fail_to_start: FailToStart) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = fail_to_start(host="::", port=other.getsockname()[1])
    assert result.returncode == 2
    assert result.stderr.startswith("Cannot listen on :: port")


def test_an_empty_repository_is_a_clear_message(fail_to_start: FailToStart, tmp_path: Path) -> None:
    result = fail_to_start(weights=tmp_path)
    assert result.returncode == 2
    assert str(tmp_path) in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_model_that_cannot_run_stops_the_start(
    fail_to_start: FailToStart, service: Service, tmp_path: Path
) -> None:
    repository = Path(_repository(service))
    folders = sorted(path.parent for path in repository.rglob("model.onnx"))
    source = next(folder for folder in folders if not (folder / "model.int8.onnx").exists())
    shutil.copytree(source, tmp_path / "run")
    (tmp_path / "run/model.onnx").write_bytes(b"not a model")
    card = json.loads((source / "card.json").read_text())
    (tmp_path / "run/card.json").write_text(json.dumps({**card, "files": {}}))
    result = fail_to_start(weights=tmp_path)
    assert result.returncode != 0
    assert "model.onnx: ONNX Runtime cannot run it" in result.stderr
    assert "Traceback" not in result.stderr


def _repository(service: Service) -> str:
    environment = Path(f"/proc/{service.process.pid}/environ").read_bytes().split(b"\0")
    given = dict(entry.split(b"=", 1) for entry in environment if b"=" in entry)
    return given.get(b"METAPLASTIC_WEIGHTS", str(ROOT / "weights").encode()).decode()


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_under_load_loses_no_request(start: Start, workers: int) -> None:
    with start(workers=workers) as service:
        stop_under_load(service)


def stop_under_load(service: Service) -> None:
    """Check that each connection is answered that was made; later ones are refused, not reset."""
    outcomes: Counter[str] = Counter()
    loaded = threading.Barrier(CLIENTS + 1)

    def ask_until_refused() -> None:
        for number in range(100_000):
            if number == 20:
                loaded.wait(PATIENCE)
            try:
                client = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE)
                client.connect()
            except ConnectionRefusedError:
                outcomes["refused"] += 1
                return
            try:
                client.request("POST", "/predict", SEVEN, {"Content-Type": "image/png"})
                outcomes[str(client.getresponse().status)] += 1
            except (OSError, http.client.HTTPException) as error:
                outcomes[f"lost: {error!r}"] += 1
            finally:
                client.close()

    clients = [threading.Thread(target=ask_until_refused) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    loaded.wait(PATIENCE)
    status, _ = service.stop()
    for client in clients:
        client.join(PATIENCE)
    assert status == 0
    assert outcomes.pop("refused") == CLIENTS
    assert set(outcomes) == {"200"}, outcomes


def test_clients_whose_handshake_ends_after_the_port_has_stopped_are_answered() -> None:
    port = free_port()
    variables = environment(port=port, workers=1, host="::")
    with running_command([sys.executable, str(FAR_CLIENTS)], port, variables) as service:
        stop_within_handshakes(service)


def stop_within_handshakes(service: Service) -> None:
    """Check that clients are answered whose handshakes begin before the stop and end after it."""
    (worker,) = service.workers
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection((address, service.port), PATIENCE))
            for address in ("127.0.0.1", "::1")
        ]
        os.kill(worker, signal.SIGSTOP)  # so that it finds all handshakes ended
        service.process.terminate()
        assert wait_until(lambda: refuses(service.port))
        for client in clients:
            client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n")
        os.kill(worker, signal.SIGCONT)
        for client in clients:
            client.sendall(f"Content-Length: {len(SEVEN)}\r\n\r\n".encode() + SEVEN)
        assert [client.recv(15, socket.MSG_WAITALL) for client in clients] == [
            b"HTTP/1.1 200 OK",
            b"HTTP/1.1 200 OK",
        ]
    assert service.process.wait(PATIENCE) == 0


def refuses(port: int) -> bool:
    """Return whether the kernel ignores new connections to `port`."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
    except TimeoutError:
        return True
    return False


def test_the_service_writes_no_file_and_reports_to_nobody(start: Start, tmp_path: Path) -> None:
    """ONNX Runtime, left alone, keeps a device id and a queue of reports in its user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path))
        patch.setenv("TMPDIR", str(tmp_path))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path))
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        with start() as service:
            url = f"{service.url}/predict"
            big = requests.post(url, files={"file": bytes(5_000_000)}, timeout=PATIENCE)
            assert big.json()["code"] == "not_an_image"
            assert requests.post(f"{url}?sample=one", timeout=PATIENCE).status_code == 200
            assert service.stop()[0] == 0
    assert list(tmp_path.rglob("*")) == []


def test_sigterm_waits_for_an_upload_that_has_begun(start: Start) -> None:
    with start(workers=1) as service:
        with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as client:
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(SEVEN)}\r\n"
            expect = "Content-Type: image/png\r\nExpect: 100-continue\r\n\r\n"
            client.sendall((head + expect).encode())
            assert b"100 Continue" in client.recv(100)  # the worker has taken the request
            service.process.terminate()
            client.sendall(SEVEN)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert service.process.wait(PATIENCE) == 0


def runs(pid: int) -> bool:
    """Whether a process is there, and not only until somebody asks how it ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Whether `condition` came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)  # between two looks, not in place of one
    return True


def test_the_port_of_a_killed_master_is_free_at_once_whoever_is_connected(start: Start) -> None:
    with start(workers=2) as service, contextlib.ExitStack() as stack:
        for _ in range(8):  # unfinished uploads, which a worker that stops would wait for
            client = stack.enter_context(
                socket.create_connection(("127.0.0.1", service.port), PATIENCE)
            )
            head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
            client.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
            assert b"100 Continue" in client.recv(100)
            client.sendall(b"some of it")
        workers = service.workers
        service.process.kill()
        service.process.wait()
        with start(port=service.port) as successor:
            answer = requests.post(f"{successor.url}/predict?sample=one", timeout=PATIENCE)
            assert answer.status_code == 200
            assert not any(map(runs, workers))


@pytest.mark.slow
def test_workers_end_within_a_second_of_their_master_even_while_they_work(start: Start) -> None:
    picture = io.BytesIO()
    Image.open(io.BytesIO(SEVEN)).convert("L").resize((1500, 1500)).save(picture, "PNG")
    files = [("file", picture.getvalue())] * 100
    with start(workers=2) as service:
        workers = service.workers
        used = {worker: cpu_seconds(worker) for worker in workers}

        def ask() -> None:
            with contextlib.suppress(requests.ConnectionError):
                while True:  # until the service is gone
                    requests.post(f"{service.url}/predict", files=files, timeout=PATIENCE)

        client = threading.Thread(target=ask)
        client.start()
        assert wait_until(lambda: any(cpu_seconds(w) > used[w] + 0.2 for w in workers))
        os.kill(service.process.pid, signal.SIGKILL)
        assert wait_until(lambda: not any(map(runs, workers)), seconds=1)
        client.join(PATIENCE)


@pytest.mark.slow
def test_a_container_that_was_paused_keeps_its_workers(start: Start) -> None:
    with start(workers=2, timeout=3) as service:
        assert wait_until(lambda: len(service.workers) == 2)
        processes = [service.process.pid, *service.workers]
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(4.5)  # longer than the timeout: nothing happens meanwhile
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
        for _ in range(4):
            answer = requests.post(f"{service.url}/predict?sample=one", timeout=PATIENCE)
            assert answer.status_code == 200
        assert service.workers == set(processes[1:])
        assert "TIMEOUT" not in service.stop()[1]
