"""`wsgi:app` under gunicorn as others start it: what its workers count is one sum, or nothing."""

import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import requests

from tests.e2e.conftest import PATIENCE, ROOT, Service, environment, free_port, running_command
from tests.e2e.test_metrics import classified, classify, runtime_folder, scrape, wait_until


def gunicorn(*options: str, **settings: object) -> AbstractContextManager[Service]:
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--no-control-socket", *options]
    command += ["-b", f"127.0.0.1:{port}", "wsgi:app"]
    return running_command(command, port, environment(**settings))


@pytest.mark.parametrize(
    "options",
    [
        ("-w", "2"),
        ("-w", "2", "--preload"),
        ("-w", "2", "--worker-class", "gthread", "--threads", "2"),
        ("-w", "2", "-c", str(ROOT / "gunicorn.conf.py")),
    ],
)
def test_every_worker_tells_the_sum_of_all(options: tuple[str, ...]) -> None:
    with gunicorn(*options) as service:
        for _ in range(12):
            classify(service, "seven")
        assert {classified(scrape(service)) for _ in range(12)} == {12}
        status, _ = service.stop()
    assert status == 0


def test_a_rate_limit_holds_for_all_workers() -> None:
    with gunicorn("-w", "2", rate_limit="10/hour") as service:
        url = f"{service.url}/api/models"
        statuses = [requests.get(url, timeout=PATIENCE).status_code for _ in range(20)]
    assert statuses == [200] * 10 + [429] * 10


def test_counts_outlive_a_worker_and_a_reload_and_leave_nothing() -> None:
    with gunicorn("-w", "2") as service:
        folder = runtime_folder(service)
        for _ in range(6):
            classify(service, "seven")
        for signal_number in (9, 1):  # SIGKILL to a worker, SIGHUP to the master
            before = service.workers
            victim = min(before) if signal_number == 9 else service.process.pid
            os.kill(victim, signal_number)
            gone = {victim} if signal_number == 9 else before
            wait_until(lambda gone=gone: not gone & service.workers and len(service.workers) == 2)
            classify(service, "seven")
        assert {classified(scrape(service)) for _ in range(6)} == {8}
        service.stop()
    assert not folder.exists()


def test_workers_that_cannot_count_together_say_what_to_start_instead(tmp_path: Path) -> None:
    other = tmp_path / "settings.py"
    other.write_text("")
    with gunicorn("-w", "2", "-c", str(other)) as service:
        answer = requests.get(f"{service.url}/metrics", timeout=PATIENCE)
    assert (answer.status_code, answer.json()["code"]) == (501, "not_counted_together")
    assert "python wsgi.py" in answer.json()["message"]


def test_one_process_has_all_the_counts(tmp_path: Path) -> None:
    other = tmp_path / "settings.py"
    other.write_text("")
    with gunicorn("-w", "1", "-c", str(other)) as service:
        classify(service, "seven")
        assert classified(scrape(service)) == 1
