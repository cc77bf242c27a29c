"""Votes as an attacker, a broken store or a bad moment make them, over HTTP to real services."""

import contextlib
import os
import random
import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from models.votes import NewVote, close_store, keep_predictions, open_store, record_votes
from tests.app.test_feedback import prediction
from tests.e2e.conftest import PATIENCE, Service, running
from tests.e2e.databases import store_of_votes
from tests.e2e.test_votes import SEVEN, WEIGHTS, ask, stored, vote, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with store_of_votes(request.param, tmp_path) as found:
        yield found


def ask_many(service: Service, count: int) -> list[str]:
    """Return the ids of predictions for so many pictures."""
    tokens: list[str] = []
    while len(tokens) < count:
        files = [("file", ("seven.png", SEVEN))] * min(30, count - len(tokens))
        answer = requests.post(f"{service.url}/predict", files=files, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        tokens += [one["prediction_id"] for one in answer.json()["predictions"]]
    return tokens


def post(service: Service, votes_: Any) -> requests.Response:
    return requests.post(f"{service.url}/api/feedback", json=votes_, timeout=PATIENCE)


def test_lists_of_the_same_predictions_in_any_order_do_not_wait_for_each_other_for_ever(
    url: str,
) -> None:
    with running(feedback=url, weights=WEIGHTS, workers=2) as service:
        tokens = ask_many(service, 300)

        def vote_in_some_order(seed: int) -> requests.Response:
            order = random.Random(seed).sample(tokens, len(tokens))
            return post(service, [{"prediction_id": t, "reward": seed % 2} for t in order])

        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(vote_in_some_order, range(18)))
        assert {answer.status_code for answer in answers} == {202}
    found = stored(url)
    assert len(found) == 300
    # Each list was stored whole: the last one, whichever it was.
    assert len({one.reward for one in found}) == 1


def test_of_a_list_with_bad_entries_nothing_is_stored_and_the_first_of_them_is_named(
    url: str,
) -> None:
    with running(feedback=url, weights=WEIGHTS, workers=1) as service:
        tokens = ask_many(service, 6)
        good = [{"prediction_id": token, "reward": 1} for token in tokens]
        deleted = {"prediction_id": tokens[3], "reward": 1}
        bad = [
            ({"prediction_id": "x" * 40, "reward": 1}, 404, "unknown_prediction"),
            ({"prediction_id": tokens[3], "label": "cat"}, 422, "unknown_label"),
            ({"prediction_id": tokens[3], "label": ""}, 422, "unknown_label"),
            ({"prediction_id": tokens[3], "label": "7" * 10**6}, 422, "unknown_label"),
            ({"prediction_id": tokens[3], "label": "\ud800\u202e\u0667"}, 422, "unknown_label"),
            ({"prediction_id": tokens[3], "label": None}, 400, "bad_vote"),
            ({"prediction_id": tokens[3], "label": 7}, 400, "bad_vote"),
        ]
        for entry, status, code in bad:
            answer = post(service, [*good[:3], entry, *good[4:], entry])
            told = answer.json()
            assert (answer.status_code, told["code"], told["index"]) == (status, code, 3)
            assert len(answer.content) < 1000
        wait_until(lambda: _rows(url) == 6)
        with contextlib.closing(_Opened(url)) as one, one.store.begin() as connection:
            connection.exec_driver_sql("DELETE FROM predictions WHERE substr(id, 26) = '3'")
        answer = post(service, [*good[:3], deleted, *good[4:]])
        assert (answer.status_code, answer.json().get("index")) in ((404, 3), (503, None))
        assert stored(url) == []


def test_what_is_stored_already_stays_and_does_not_stop_what_comes_with_it(url: str) -> None:
    # So it is when a connection was lost in a commit that had succeeded.
    with contextlib.closing(_Opened(url)) as one:
        keep_predictions(one.store, [prediction("one")])
        record_votes(one.store, [NewVote("one", "key:ann", reward=1)])
        keep_predictions(one.store, [prediction("one"), prediction("two")])
    assert _rows(url) == 2
    assert [one.reward for one in stored(url)] == [1]


class _Opened:
    """An open store, to be closed."""

    def __init__(self, url: str) -> None:
        self.store = open_store(url)

    def close(self) -> None:
        close_store(self.store)


def _rows(url: str) -> int:
    with contextlib.closing(_Opened(url)) as one, one.store.connect() as connection:
        number: int = connection.exec_driver_sql("SELECT count(*) FROM predictions").scalar()
        return number


def test_what_expired_while_nothing_ran_goes_after_a_start_without_any_request(url: str) -> None:
    with running(feedback=url, feedback_wait=2, weights=WEIGHTS, workers=1) as service:
        ask(service.url)
        wait_until(lambda: _rows(url) == 1)
        for pid in (service.process.pid, *service.workers):
            os.kill(pid, signal.SIGKILL)
    with running(feedback=url, feedback_wait=2, weights=WEIGHTS, workers=1):
        wait_until(lambda: _rows(url) == 0)


def test_answers_before_a_stop_keep_their_predictions(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'votes.db'}"
    tokens = []
    for _ in range(4):
        with running(feedback=url, weights=WEIGHTS, workers=1) as service:
            with ThreadPoolExecutor(4) as pool:
                asked = [pool.submit(ask, service.url) for _ in range(20)]
                asked[12].result()
                service.process.send_signal(signal.SIGTERM)
                for one in asked:
                    with contextlib.suppress(requests.RequestException):  # after the stop
                        tokens.append(one.result()["prediction_id"])
            assert service.process.wait(PATIENCE) == 0
    assert _rows(url) == len(tokens)


BODIES: list[bytes] = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"{",
    b'{"prediction_id": "x", "reward": 1}',
    b'{"prediction_id": "x", "reward": 1e400}',
    b'{"prediction_id": "x", "reward": ' + b"9" * 5000 + b"}",
    b'{"prediction_id": "\\ud800", "reward": 1}',
    b'{"prediction_id": "x", "reward": 1, "reward": 0}',
    b'{"prediction_id": "' + b"A" * 2000 + b'", "reward": 1}',
    b"[" * 3000,
    b"[" + b'{"prediction_id":"x","reward":1},' * 9999 + b'{"prediction_id":"x","reward":1}]',
    b"[" + b'{"prediction_id":"x","reward":1},' * 1100 + b'{"prediction_id":"x","reward":1}]',
]


def test_both_paths_give_the_same_answers_about_votes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'votes.db'}"
    common = {"feedback": url, "weights": WEIGHTS, "workers": 1}
    with running(**common) as direct, running(direct="off", **common) as flask:
        token = ask(direct.url)["prediction_id"]
        good = [
            f'{{"prediction_id": "{token}", {what}}}'.encode()
            for what in ('"reward": 1', '"reward": 0', '"label": "7"', '"label": "x"')
        ]
        for body in [*BODIES, *good]:
            for query in ("", "?key=x"):
                answers = [
                    requests.post(f"{one.url}/api/feedback{query}", data=body, timeout=PATIENCE)
                    for one in (direct, flask)
                ]
                first, second = (
                    (
                        answer.status_code,
                        answer.json(),
                        {
                            name: value
                            for name, value in answer.headers.items()
                            if name not in ("Date", "X-Request-ID", "Connection")
                        },
                    )
                    for answer in answers
                )
                assert first == second, body[:60]
                assert answers[0].status_code < 500, body[:60]
    (found,) = stored(url)
    assert found.label == 7


def test_many_votes_at_once_do_not_stop_the_answers_while_the_file_is_locked(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path / 'votes.db'}"
    with running(feedback=url, weights=WEIGHTS, workers=1) as service:
        token = ask(service.url)["prediction_id"]
        assert vote(service.url, prediction_id=token, reward=1).status_code == 202
        blocker = sqlite3.connect(tmp_path / "votes.db", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(150) as pool:
            pending = [
                pool.submit(vote, service.url, prediction_id=token, reward=0) for _ in range(150)
            ]
            wait_until(lambda: any(one.done() for one in pending))  # there is no room for more
            assert not all(one.done() for one in pending)
            assert ask(service.url)["label"] == "7"
            assert not all(one.done() for one in pending)  # the answer has not waited for them
            blocker.close()
            answers = [one.result() for one in pending]
        codes = {answer.json().get("code", "accepted") for answer in answers}
        assert codes <= {"accepted", "feedback_unavailable", "too_busy"}
        assert "too_busy" in codes
        assert vote(service.url, prediction_id=token, label="7").status_code == 202


def test_a_file_that_becomes_corrupt_stops_no_answer_and_a_new_one_is_taken_up(
    tmp_path: Path,
) -> None:
    path = tmp_path / "votes.db"
    url = f"sqlite:///{path}"
    with running(feedback=url, weights=WEIGHTS, workers=2) as service:
        token = ask(service.url)["prediction_id"]
        assert vote(service.url, prediction_id=token, reward=1).status_code == 202
        broken = tmp_path / "broken"
        broken.write_bytes(b"rotten " * 10_000)
        for rest in ("-wal", "-shm"):
            path.with_name(path.name + rest).unlink(missing_ok=True)
        broken.replace(path)
        for _ in range(6):
            assert ask(service.url)["label"] == "7"
            refused = vote(service.url, prediction_id=token, reward=0)
            assert (refused.status_code, refused.json()["code"]) == (503, "feedback_unavailable")
        learned = requests.get(f"{service.url}/api/mnist/lenet/learning", timeout=PATIENCE)
        assert learned.status_code == 503
        path.unlink()

        def accepted() -> bool:
            content = {"prediction_id": ask(service.url)["prediction_id"], "reward": 0}
            return vote(service.url, **content).status_code == 202

        wait_until(accepted)
        log = service.log.read_text() if service.log else ""
        assert "file is not a database" in log
        assert "the file was removed or replaced" in log
    assert {one.reward for one in stored(url)} == {0}
