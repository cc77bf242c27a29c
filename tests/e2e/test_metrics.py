"""/metrics, right across workers, as Prometheus reads it; and dashboard and alerts on it."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import requests
import tritonclient.http as triton
import yaml
from prometheus_client.parser import text_string_to_metric_families

from models.votes import CHALLENGER, close_store, note_event, open_store
from tests.e2e.conftest import PATIENCE, ROOT, Service, free_port, running
from tests.e2e.digits import VERSION, as_bytes

Start = Callable[..., AbstractContextManager[Service]]
DEPLOY = ROOT / "deploy"
SAMPLES = ROOT / "app" / "static" / "samples" / "mnist"
MODEL = {"model": "mnist-lenet-metaplastic", "version": VERSION}
NAME = re.compile(r"\bmetaplastic_[a-z_]+\b")


def scrape(service: Service) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample's value by its name and labels."""
    response = requests.get(f"{service.url}/metrics", timeout=PATIENCE)
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def value(samples: Any, name: str, **labels: str) -> float:
    return samples.get((name, frozenset(labels.items())), 0.0)


def classify(service: Service, digit: str) -> None:
    with (SAMPLES / f"{digit}.png").open("rb") as file:
        answer = requests.post(f"{service.url}/predict", files={"file": file}, timeout=PATIENCE)
    assert answer.status_code == 200


def classified(samples: Any) -> float:
    labels = {**MODEL, "route": "/predict", "status": "200"}
    counted = value(samples, "metaplastic_requests_total", **labels)
    assert counted == value(samples, "metaplastic_request_duration_seconds_count", **labels)
    return counted


def test_counts_are_those_of_all_workers_and_outlive_them(start: Start) -> None:
    with start(workers=2) as service:
        folder = runtime_folder(service)
        asked = 0
        with ThreadPoolExecutor(8) as callers:
            while len(list(folder.glob("counter_*.db"))) < 2:  # until either worker has counted
                digits = ("seven", "three", "three") * 10
                list(callers.map(lambda digit: classify(service, digit), digits))
                asked += len(digits)
                assert asked < 3000, "only one worker answers"
        before = scrape(service)
        victim = min(service.workers)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in service.workers and len(service.workers) == 2)
        classify(service, "three")
        after = scrape(service)
        assert not list(folder.glob(f"*_{victim}.db"))
        service.stop()
        assert not folder.exists()
    assert (classified(before), classified(after)) == (asked, asked + 1)
    label = {**MODEL, "label": "3"}
    assert value(before, "metaplastic_predictions_total", **label) == asked * 2 / 3
    assert value(after, "metaplastic_predictions_total", **label) == asked * 2 / 3 + 1
    buckets = {**MODEL, "stage": "infer", "le": "+Inf"}
    assert value(after, "metaplastic_stage_duration_seconds_bucket", **buckets) == asked + 1


def test_statistics_are_those_of_all_workers_and_outlive_them(start: Start) -> None:
    """As NVIDIA's performance analyser asks for them before and after it measures."""
    name, images = MODEL["model"], as_bytes()
    tensor = triton.InferInput("images", list(images.shape), "UINT8").set_data_from_numpy(images)
    with start(workers=2) as service, ThreadPoolExecutor(8) as callers:
        address = f"127.0.0.1:{service.port}"
        folder = runtime_folder(service)

        def ask(_: int) -> None:
            with triton.InferenceServerClient(address) as client:
                client.infer(name, [tensor])

        def statistics() -> Any:
            with triton.InferenceServerClient(address) as client:
                (found,) = client.get_inference_statistics(name, VERSION)["model_stats"]
            return found

        began, asked = int(time.time()), 0
        while len(list(folder.glob("gauge_max_*.db"))) < 2:  # until either worker has answered
            list(callers.map(ask, range(20)))
            asked += 20
            assert asked < 3000, "only one worker answers"
        before = statistics()
        victim = min(service.workers)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in service.workers and len(service.workers) == 2)
        after = statistics()
    assert before == after
    counts = (before["inference_count"], before["execution_count"])
    assert counts == (asked * len(images), asked)
    assert began <= before["last_inference"] / 1000 <= time.time()
    spent = before["inference_stats"]
    never = {"count": 0, "ns": 0}
    assert [spent.pop(name) for name in ("fail", "cache_hit", "cache_miss")] == [never] * 3
    assert {part["count"] for part in spent.values()} == {asked}
    success = spent.pop("success")["ns"]
    assert 0 < sum(part["ns"] for part in spent.values()) < success
    assert spent["compute_infer"]["ns"] > 0


def test_a_folder_that_a_killed_service_left_is_removed(start: Start) -> None:
    with start(workers=1) as killed:
        left = runtime_folder(killed)
        assert left.exists()
        workers = killed.workers
        for pid in (killed.process.pid, *workers):
            os.kill(pid, signal.SIGKILL)
        killed.process.wait(PATIENCE)
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
        with start(workers=1) as other:
            assert not left.exists()  # whichever service started first
            assert runtime_folder(other).exists()


def runtime_folder(service: Service) -> Path:
    """The folder that the service counts in, from what its workers have open."""
    (worker, *_) = service.workers
    for _ in range(2):
        for entry in Path(f"/proc/{worker}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = entry.readlink()
                if target.name == "alive" and target.parent.name.startswith("metaplastic-"):
                    return target.parent
    raise AssertionError("no folder")


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)  # between two looks


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that has seen one of everything: answers, votes, strange images, refusals."""
    url = f"sqlite:///{tmp_path_factory.mktemp('votes') / 'votes.db'}"
    store = open_store(url)
    gates = {"version": 5, "gates": [{"gate": "home", "verdict": "passed"}]}
    note_event(store, CHALLENGER, "mnist", "lenet", "metaplastic", gates)
    close_store(store)
    with running(feedback=url) as service:
        ask_and_vote(service)
        ask_strangely(service)
        wait_until(lambda: "metaplastic_challenger_gate{" in metrics_of(service))
        yield service


def metrics_of(service: Service) -> str:
    return requests.get(f"{service.url}/metrics", timeout=PATIENCE).text


def ask_and_vote(service: Service) -> None:
    with (SAMPLES / "seven.png").open("rb") as file:
        answer = requests.post(f"{service.url}/predict", files={"file": file}, timeout=PATIENCE)
    vote = {"prediction_id": answer.json()["predictions"][0]["prediction_id"], "reward": 1}
    accepted = requests.post(f"{service.url}/api/feedback", json=vote, timeout=PATIENCE)
    assert accepted.status_code == 202


def ask_strangely(service: Service) -> None:
    noise = bytes(range(256)) * 4
    strange = {"inputs": [{"name": "images", "shape": [1, 28, 28], "datatype": "UINT8"}]}
    strange["inputs"][0]["data"] = list((noise * 2)[:784])
    url = f"{service.url}/v2/models/{MODEL['model']}/infer"
    assert requests.post(url, json=strange, timeout=PATIENCE).status_code == 200
    many = {"images": ["eA=="] * 129}
    refused = requests.post(f"{service.url}/predict", json=many, timeout=PATIENCE)
    assert refused.status_code == 413


def test_what_is_predicted_how_surely_and_of_what_is_counted(busy: Service) -> None:
    samples = scrape(busy)
    assert value(samples, "metaplastic_prediction_confidence_count", **MODEL) >= 2
    assert value(samples, "metaplastic_out_of_distribution_total", **MODEL) >= 1
    assert value(samples, "metaplastic_model_loaded", **MODEL, default="true") == 1
    assert value(samples, "metaplastic_rejected_requests_total", reason="too_many_images") >= 1
    assert value(samples, "metaplastic_queue_depth") == 0
    for stage in ("wait", "read", "decode", "prepare", "infer", "answer"):
        labels = {**MODEL, "stage": stage}
        assert value(samples, "metaplastic_stage_duration_seconds_count", **labels) >= 1, stage


def test_connections_that_wait_are_counted(start: Start) -> None:
    with start(workers=1) as service, contextlib.ExitStack() as waiting:

        def ask(path: str) -> socket.socket:
            address = ("127.0.0.1", service.port)
            client = waiting.enter_context(socket.create_connection(address, PATIENCE))
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            return client

        (worker,) = service.workers
        os.kill(worker, signal.SIGSTOP)  # as if it were at work
        asking = ask("/metrics")
        for _ in range(3):
            ask("/health/live")
        time.sleep(0.15)  # so that the wait can be seen
        os.kill(worker, signal.SIGCONT)
        answer = b"".join(iter(lambda: asking.recv(65536), b"")).decode()
        waited = scrape(service)
    assert "metaplastic_queue_depth 3.0" in answer
    labels = {"stage": "wait", "model": "", "version": ""}
    assert value(waited, "metaplastic_stage_duration_seconds_sum", **labels) > 0.1


def test_every_metric_that_dashboard_and_alerts_use_is_exported(busy: Service) -> None:
    known = {name for name, _ in scrape(busy)}
    text = (DEPLOY / "grafana/metaplastic.json").read_text()
    text += (DEPLOY / "prometheus/alerts.yml").read_text()
    text += (DEPLOY / "kubernetes/metaplastic.yaml").read_text()
    used = set(NAME.findall(text))
    assert len(used) > 8
    assert used <= known
    dashboard = json.loads((DEPLOY / "grafana/metaplastic.json").read_text())
    families = {re.sub("_(bucket|sum|count)$", "", name) for name in known}
    drawn = {re.sub("_(bucket|sum|count)$", "", n) for n in NAME.findall(json.dumps(dashboard))}
    assert drawn == families, "each metric of ours is drawn"


@pytest.fixture
def prometheus(busy: Service, tmp_path: Path) -> Iterator[str]:
    """A real Prometheus with our alerts that scrapes the service; its URL."""
    if not shutil.which("prometheus"):
        pytest.skip("Debian's package prometheus is not installed")
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "200ms", "evaluation_interval": "200ms"}
    config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{busy.port}"]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(DEPLOY / "prometheus/alerts.yml", tmp_path)
    port = free_port()
    command = ["prometheus", f"--config.file={tmp_path}/prometheus.yml"]
    command += [f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{port}"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(PATIENCE)


@pytest.mark.slow
def test_a_real_prometheus_scrapes_it_and_evaluates_dashboard_and_alerts(prometheus: str) -> None:
    def ask(expression: str) -> Any:
        with contextlib.suppress(requests.ConnectionError):
            url = f"{prometheus}/api/v1/query"
            response = requests.get(url, params={"query": expression}, timeout=PATIENCE)
            if response.status_code != 503:
                return response.json()
        return {"status": "starting", "data": {"result": []}}

    wait_until(lambda: ask('up{job="metaplastic"} == 1')["data"]["result"])
    asked = f'metaplastic_predictions_total{{model="{MODEL["model"]}"}}'
    assert sum(float(row["value"][1]) for row in ask(asked)["data"]["result"]) >= 2
    for panel in json.loads((DEPLOY / "grafana/metaplastic.json").read_text())["panels"]:
        for target in panel["targets"]:
            # What Grafana puts in place of its own variables.
            expression = target["expr"].replace("$__rate_interval", "1m").replace("$model", ".*")
            assert ask(expression)["status"] == "success", expression
    rules = requests.get(f"{prometheus}/api/v1/rules", timeout=PATIENCE).json()
    (group,) = rules["data"]["groups"]
    assert len(group["rules"]) == 10
    wait_until(
        lambda: all(
            rule["health"] == "ok"
            for rule in requests.get(f"{prometheus}/api/v1/rules", timeout=PATIENCE).json()["data"][
                "groups"
            ][0]["rules"]
        )
    )


def test_prometheus_own_tool_finds_no_fault_with_the_alerts() -> None:
    if not shutil.which("promtool"):
        pytest.skip("Debian's package prometheus is not installed")
    command = ["promtool", "check", "rules", str(DEPLOY / "prometheus/alerts.yml")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
