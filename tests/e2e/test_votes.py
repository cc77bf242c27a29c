"""Votes over HTTP to real services, with SQLite and PostgreSQL, and what a failure does to them."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from models.aliases import ALIASES, set_aliases
from models.votes import Vote, close_store, open_store, votes
from tests.app.made import LENET
from tests.e2e.conftest import PATIENCE, ROOT, running
from tests.e2e.databases import postgresql, store_of_votes

SEVEN = (ROOT / "app/static/samples/mnist/seven.png").read_bytes()
WEIGHTS = ROOT / "weights/mnist/lenet"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with store_of_votes(request.param, tmp_path) as found:
        yield found


def ask(service: str, session: Any = requests) -> Any:
    answer = session.post(f"{service}/predict", files={"file": SEVEN}, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"][0]


def vote(service: str, session: Any = requests, **content: Any) -> Any:
    return session.post(f"{service}/api/feedback", json=content, timeout=PATIENCE)


def stored(url: str) -> list[Vote]:
    with contextlib.closing(Closing(url)) as one:
        return votes(one.store, "mnist", "lenet")


class Closing:
    """An open store, to be closed."""

    def __init__(self, url: str) -> None:
        self.store = open_store(url)

    def close(self) -> None:
        close_store(self.store)


def wait_until(done: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)  # between two looks


@pytest.mark.slow
@pytest.mark.parametrize("direct", ["on", "off"])
def test_votes_at_any_worker_about_answers_of_any_worker(url: str, direct: str) -> None:
    with running(feedback=url, weights=WEIGHTS, workers=3, direct=direct) as service:

        def ask_and_vote(number: int) -> str:
            with requests.Session() as session:  # its connection may be to another worker
                token: str = ask(service.url)["prediction_id"]
                accepted = vote(service.url, session, prediction_id=token, reward=number % 2)
                assert accepted.status_code == 202, accepted.text
                return token

        with ThreadPoolExecutor(4) as pool:
            tokens = list(pool.map(ask_and_vote, range(100)))
        assert len(set(tokens)) == 100
        learned = requests.get(f"{service.url}/api/mnist/lenet/learning", timeout=PATIENCE).json()
        assert learned["votes"] == 100
        assert learned["by_version"][0]["share_up"] == 0.5
        found = stored(url)
        assert len(found) == 100
        assert sum(one.reward or 0 for one in found) == 50


def voter(service: str, stop: threading.Event, accepted: list[str]) -> None:
    """Ask and vote until told to stop; note each vote that was accepted."""
    with requests.Session() as session:
        while not stop.is_set():
            with contextlib.suppress(requests.RequestException, KeyError):
                token = ask(service, session)["prediction_id"]
                if vote(service, session, prediction_id=token, reward=1).status_code == 202:
                    accepted.append(token)


@contextlib.contextmanager
def voting(service: str) -> Iterator[list[str]]:
    """Two callers who vote all the time; gives the accepted votes."""
    stop, accepted = threading.Event(), list[str]()
    callers = [
        threading.Thread(target=voter, args=(service, stop, accepted), daemon=True) for _ in "ab"
    ]
    for caller in callers:
        caller.start()
    try:
        yield accepted
    finally:
        stop.set()
        for caller in callers:
            caller.join(PATIENCE)


@pytest.mark.slow
def test_a_killed_worker_loses_no_accepted_vote(url: str) -> None:
    with (
        running(feedback=url, weights=WEIGHTS, workers=2) as service,
        voting(service.url) as accepted,
    ):
        for round_ in range(1, 4):
            wait_until(lambda round_=round_: len(accepted) >= 20 * round_)
            before = service.workers
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda before=before: service.workers - before)
        wait_until(lambda: len(accepted) >= 80)
    assert len(stored(url)) >= len(accepted)


@pytest.mark.slow
def test_a_reload_and_a_stop_lose_no_accepted_vote(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'votes.db'}"
    with (
        running(feedback=url, weights=WEIGHTS, workers=2) as service,
        voting(service.url) as accepted,
    ):
        for round_ in range(1, 3):
            wait_until(lambda round_=round_: len(accepted) >= 20 * round_)
            before = service.workers
            service.process.send_signal(signal.SIGHUP)
            wait_until(lambda before=before: not before & service.workers)
        wait_until(lambda: len(accepted) >= 60)
        status, log = service.stop()  # in the midst of votes
        assert status == 0, log
    assert len(stored(url)) >= len(accepted)


@pytest.mark.slow
def test_no_answer_waits_for_the_disk_of_a_vote(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'votes.db'}"
    with running(feedback=url, weights=WEIGHTS, workers=1) as service:
        token = ask(service.url)["prediction_id"]
        assert vote(service.url, prediction_id=token, reward=1).status_code == 202
        blocker = sqlite3.connect(tmp_path / "votes.db", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")  # another program writes, and takes its time
        with ThreadPoolExecutor(1) as pool:
            pending = pool.submit(vote, service.url, prediction_id=token, reward=0)
            for _ in range(5):
                assert ask(service.url)["label"] == "7"
            assert not pending.done()
            blocker.close()
            assert pending.result().status_code == 202
    (found,) = stored(url)
    assert found.reward == 0


@pytest.mark.slow
def test_a_killed_database_loses_no_accepted_vote_and_no_answer_fails_meanwhile() -> None:
    with postgresql() as server, running(feedback=server.url, weights=WEIGHTS) as service:
        with voting(service.url) as accepted:
            for round_ in range(1, 3):
                wait_until(lambda round_=round_: len(accepted) >= 20 * round_)
                server.kill()
                answer = ask(service.url)
                assert answer["label"] == "7"
                if token := answer.get("prediction_id"):
                    refused = vote(service.url, prediction_id=token, reward=1)
                    assert refused.status_code == 503
                    assert refused.json()["code"] == "feedback_unavailable"
                server.start()
            wait_until(lambda: len(accepted) >= 60)
        assert len(stored(server.url)) >= len(accepted)
        log = service.log.read_text() if service.log else ""
        assert "votes cannot be stored now: postgresql+psycopg://votes:***@127.0.0.1" in log
        assert "votes are stored again" in log
        assert "a-password" not in log


@pytest.mark.slow
def test_the_service_starts_again_on_the_same_store(url: str) -> None:
    with running(feedback=url, weights=WEIGHTS) as service:
        token = ask(service.url)["prediction_id"]
        assert vote(service.url, prediction_id=token, reward=0).status_code == 202
    with running(feedback=url, weights=WEIGHTS) as service:
        # The secret is in the store, so the id is still good.
        assert vote(service.url, prediction_id=token, label="1").status_code == 202
    (found,) = stored(url)
    assert found.label == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.getuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


@pytest.mark.slow
def test_on_a_full_disk_answers_go_on_and_no_vote_is_accepted(small_disk: Path) -> None:
    url = f"sqlite:///{small_disk / 'votes.db'}"
    filler = small_disk / "filler"
    with running(feedback=url, weights=WEIGHTS, workers=1) as service:
        first = ask(service.url)["prediction_id"]
        assert vote(service.url, prediction_id=first, reward=1).status_code == 202
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(b"x" * 4096)
                file.flush()
        statuses = []
        for _ in range(30):
            answer = ask(service.url)
            assert answer["label"] == "7"
            if token := answer.get("prediction_id"):
                statuses.append(vote(service.url, prediction_id=token, reward=1).status_code)
        assert set(statuses) <= {202, 503}
        assert 503 in statuses
        log = service.log.read_text() if service.log else ""
        assert "votes cannot be stored now" in log
        filler.unlink()
        wait_until(lambda: vote(service.url, prediction_id=first, reward=0).status_code == 202)
        # What waited in memory has been written since.
        token = ask(service.url)["prediction_id"]
        assert vote(service.url, prediction_id=token, reward=1).status_code == 202
    assert len(stored(url)) == 2 + statuses.count(202)


@pytest.mark.slow
def test_a_file_that_may_not_grow_is_like_a_full_disk(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'votes.db'}"
    close_store(open_store(url))
    limited = ["prlimit", f"--fsize={400 * 1024}", "--"]
    if not shutil.which("prlimit"):
        pytest.skip("prlimit, of util-linux, is not installed")
    with running(before=limited, feedback=url, weights=WEIGHTS, workers=1) as service:
        accepted = 0
        for _ in range(200):
            answer = ask(service.url)
            assert answer["label"] == "7"
            token = answer.get("prediction_id")
            if not token or vote(service.url, prediction_id=token, reward=1).status_code != 202:
                break
            accepted += 1
        else:
            pytest.fail("the limit was never reached")
    assert len(stored(url)) == accepted > 5


@pytest.mark.slow
def test_expired_pictures_go_without_anybody_asking(url: str) -> None:
    with running(feedback=url, feedback_wait=5, weights=WEIGHTS, workers=1) as service:
        token = ask(service.url)["prediction_id"]
        with contextlib.closing(Closing(url)) as one:
            wait_until(lambda: count(one.store) == 1)
            wait_until(lambda: count(one.store) == 0)
        assert vote(service.url, prediction_id=token, reward=1).status_code == 410


def count(store: Any) -> int:
    with store.connect() as connection:
        number: int = connection.exec_driver_sql("SELECT count(*) FROM predictions").scalar()
        return number


@pytest.mark.slow
def test_a_changed_alias_is_served_within_seconds_and_no_request_fails(tmp_path: Path) -> None:
    folder = tmp_path / "mnist/lenet/metaplastic"
    for version in (4, 5):
        target = folder / str(version)
        target.mkdir(parents=True)
        for name in ("model.onnx", "card.json"):
            text = (LENET / name).read_bytes()
            old = f'"version": {LENET.name}'.encode()
            new = f'"version": {version}'.encode()
            (target / name).write_bytes(text.replace(old, new) if name == "card.json" else text)
    set_aliases(folder, champion=4, challenger=5)
    with running(weights=tmp_path, feedback=f"sqlite:///{tmp_path / 'votes.db'}") as service:

        def version() -> int:
            answer = requests.post(
                f"{service.url}/predict", files={"file": SEVEN}, timeout=PATIENCE
            )
            assert answer.status_code == 200
            number: int = answer.json()["version"]
            return number

        assert version() == 4
        set_aliases(folder, champion=5)
        wait_until(lambda: version() == 5)
        (folder / ALIASES).write_text("{")
        wait_until(lambda: "is not JSON in UTF-8" in service.log.read_text())  # type: ignore[union-attr]
        assert version() == 5  # the newest
        (folder / ALIASES).unlink()
        set_aliases(folder, champion=4)
        wait_until(lambda: version() == 4)
