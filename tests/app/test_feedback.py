"""Votes about predictions: what is accepted, what is refused, and what is kept."""

import base64
import io
import json
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from app import create_app
from app.errors import RequestError
from app.feedback import tokens, writer
from app.settings import Settings, SettingsError, StartError
from app.web.keys import hash_of
from models.votes import (
    NewVote,
    Prediction,
    Store,
    VotesError,
    close_store,
    delete_key,
    keep_predictions,
    open_store,
    record_votes,
    votes,
    writing,
)
from tests.app.asking import refused, send_many, upload

ADMIN, ANN, BOB = "key-of-the-admin", "key-of-ann", "key-of-bob"


@pytest.fixture
def voting(make_client: Callable[..., FlaskClient], lenets: Path, tmp_path: Path) -> FlaskClient:
    """A service with the LeNets for MNIST, which asks for votes."""
    return make_client(weights=lenets, feedback=url_of(tmp_path))


@pytest.fixture
def with_keys(make_client: Callable[..., FlaskClient], lenets: Path, tmp_path: Path) -> FlaskClient:
    """The same, with the keys of an admin, of Ann and of Bob."""
    keys = tmp_path / "keys"
    lines = [("boss", "admin", ADMIN), ("ann", "user", ANN), ("bob", "user", BOB)]
    keys.write_text("".join(f"{name} {role} {hash_of(key)}\n" for name, role, key in lines))
    return make_client(weights=lenets, feedback=url_of(tmp_path), keys=keys)


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'votes.db'}"


def ask(client: FlaskClient, seven: bytes, **headers: str) -> Any:
    """Return the prediction for a seven."""
    form = {"file": (io.BytesIO(seven), "seven.png")}
    response = client.post("/predict", data=form, headers=headers)
    assert response.status_code == 200, response.text
    return response.json["predictions"][0]


def vote(client: FlaskClient, content: Any, **headers: str) -> TestResponse:
    return client.post("/api/feedback", json=content, headers=headers)


def stored(folder: Path) -> list[Any]:
    store = open_store(url_of(folder))
    try:
        return votes(store, "mnist", "lenet")
    finally:
        close_store(store)


def rows(folder: Path) -> list[Any]:
    with sqlite3.connect(folder / "votes.db") as connection:
        return connection.execute("SELECT id, voted FROM predictions").fetchall()


def test_without_the_setting_there_are_no_ids_and_no_routes(
    make_client: Callable[..., FlaskClient], lenets: Path, seven: bytes
) -> None:
    client = make_client(weights=lenets)
    assert "prediction_id" not in ask(client, seven)
    assert vote(client, {}).status_code == 404
    assert not [path for path in client.get("/swagger.json").json["paths"] if "feedback" in path]


def test_a_thumb_is_stored_with_the_picture_as_the_network_received_it(
    voting: FlaskClient, seven: bytes, tmp_path: Path
) -> None:
    form = {"file": (io.BytesIO(seven), "seven.png")}
    (prediction,) = voting.post("/predict?prepared=true", data=form).json["predictions"]
    accepted = vote(voting, {"prediction_id": prediction["prediction_id"], "reward": 1})
    assert (accepted.status_code, accepted.json) == (202, {"accepted": 1})
    (found,) = stored(tmp_path)
    assert (found.reward, found.label, found.right) == (1, None, True)
    assert (found.prediction.answer, found.prediction.version) == (7, 4)
    shown = Image.open(io.BytesIO(base64.b64decode(prediction["prepared"])))
    assert np.array_equal(found.prediction.pixels[..., 0], np.asarray(shown))


def test_neither_the_file_nor_its_name_nor_an_address_is_kept(
    voting: FlaskClient, seven: bytes, tmp_path: Path
) -> None:
    form = {"file": (io.BytesIO(seven), "my-secret-name.png")}
    (prediction,) = voting.post("/predict", data=form).json["predictions"]
    vote(voting, {"prediction_id": prediction["prediction_id"], "reward": 1})
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("votes.db*"))
    assert b"address:" in kept
    for never in (seven, b"my-secret-name", b"127.0.0.1"):
        assert never not in kept


def test_every_picture_of_a_request_has_an_id_of_its_own(
    voting: FlaskClient, seven: bytes, tmp_path: Path
) -> None:
    response = send_many(voting, ("a.png", seven), ("b.png", seven))
    ids = [one["prediction_id"] for one in response.json["predictions"]]
    assert len(set(ids)) == 2
    content = [
        {"prediction_id": ids[0], "reward": 0},
        {"prediction_id": ids[1], "label": "7"},
    ]
    assert vote(voting, content).json == {"accepted": 2}
    by_index = {one.prediction.id.partition(".")[2]: one for one in stored(tmp_path)}
    assert (by_index["0"].reward, by_index["1"].label) == (0, 7)


def test_the_same_vote_again_changes_nothing(
    voting: FlaskClient, seven: bytes, tmp_path: Path
) -> None:
    content = {"prediction_id": ask(voting, seven)["prediction_id"], "reward": 1}
    vote(voting, content)
    (first,) = stored(tmp_path)
    assert vote(voting, content).status_code == 202
    assert [one.voted for one in stored(tmp_path)] == [first.voted]
    assert 'metaplastic_votes_total{label="7",model="mnist-' in voting.get("/metrics").text


def test_another_vote_replaces_the_first(voting: FlaskClient, seven: bytes, tmp_path: Path) -> None:
    token = ask(voting, seven)["prediction_id"]
    vote(voting, {"prediction_id": token, "reward": 1})
    assert vote(voting, {"prediction_id": token, "label": "1"}).status_code == 202
    (found,) = stored(tmp_path)
    assert (found.reward, found.label, found.right) == (None, 1, False)


def test_a_label_that_the_data_set_does_not_have_is_refused(
    voting: FlaskClient, seven: bytes
) -> None:
    token = ask(voting, seven)["prediction_id"]
    error = refused(vote(voting, {"prediction_id": token, "label": "cat"}), 422, "unknown_label")
    assert "0, 1, 2" in error["message"]


def test_a_vote_that_comes_too_late_is_refused_and_the_picture_is_gone(
    make_client: Callable[..., FlaskClient],
    lenets: Path,
    tmp_path: Path,
    seven: bytes,
) -> None:
    client = make_client(weights=lenets, feedback=url_of(tmp_path), feedback_wait=1)
    token = ask(client, seven)["prediction_id"]
    content = {"prediction_id": token, "reward": 1}
    wait_until(lambda: vote(client, content).status_code == 410)
    refused(vote(client, content), 410, "prediction_expired")
    # The writer sweeps when it is woken; a service that is asked for nothing does so by itself.
    wait_until(lambda: not unvoted(tmp_path))


def unvoted(folder: Path) -> list[Any]:
    return [row for row in rows(folder) if row[1] is None]


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)  # between two looks


def respelled(token: str) -> list[str]:
    """Other texts that base64 reads as the same bytes, where there are any."""
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    bare = token.rstrip("=")
    others = [f"{token}=", token.replace("-", "+").replace("_", "/")]
    if bare != token:  # the last digit has bits that do not count
        others.append(f"{bare[:-1]}{digits[digits.index(bare[-1]) + 1]}{token[len(bare) :]}")
    return [other for other in others if other != token]


def altered(token: str, secret: bytes) -> list[str]:
    raw = base64.urlsafe_b64decode(token)
    other = raw.replace(b"|4|", b"|5|")
    return [
        "",
        "x",
        token[:-4],
        token + "AAAA",
        f" {token}",
        "\N{SNOWMAN}",
        base64.urlsafe_b64encode(other).decode(),
        base64.urlsafe_b64encode(raw[:16] + raw[17:]).decode(),
        *respelled(token),
        tokens.sign(tokens.verify(token, secret), b"the secret of another store"),
    ]


def test_ids_that_the_service_did_not_give_out_are_unknown(
    voting: FlaskClient, seven: bytes, tmp_path: Path
) -> None:
    token = ask(voting, seven)["prediction_id"]
    for forged in altered(token, voting.application.extensions["feedback"].secret):
        answer = vote(voting, {"prediction_id": forged, "reward": 1})
        refused(answer, 404, "unknown_prediction")
    refused(vote(voting, {"prediction_id": "A" * 5000, "reward": 1}), 400, "bad_vote")
    assert stored(tmp_path) == []


def test_an_id_of_another_store_is_unknown(
    voting: FlaskClient,
    make_client: Callable[..., FlaskClient],
    lenets: Path,
    seven: bytes,
    tmp_path: Path,
) -> None:
    other = make_client(weights=lenets, feedback=f"sqlite:///{tmp_path / 'other.db'}")
    token = ask(other, seven)["prediction_id"]
    refused(vote(voting, {"prediction_id": token, "reward": 1}), 404, "unknown_prediction")


@pytest.mark.parametrize(
    "content",
    [
        [],
        7,
        "text",
        {},
        {"reward": 1},
        {"prediction_id": 5, "reward": 1},
        {"prediction_id": "x"},
        {"prediction_id": "x", "reward": 1, "label": "7"},
        {"prediction_id": "x", "reward": 2},
        {"prediction_id": "x", "reward": True},
        {"prediction_id": "x", "reward": 1.0},
        {"prediction_id": "x", "reward": "1"},
        {"prediction_id": "x", "label": 7},
        {"prediction_id": "x", "reward": 1, "weight": 100},
        [[{"prediction_id": "x", "reward": 1}]],
    ],
    ids=str,
)
def test_what_is_no_vote_is_refused(voting: FlaskClient, content: Any) -> None:
    refused(vote(voting, content), 400, "bad_vote")


def test_bodies_that_are_not_json_are_refused(voting: FlaskClient) -> None:
    refused(voting.post("/api/feedback", data=b"reward=1"), 400, "bad_json")


def test_a_list_of_a_million_votes_is_refused_before_it_is_parsed(voting: FlaskClient) -> None:
    body = b"[" + b",".join([b"{}"] * 1_000_000) + b"]"
    began = time.process_time()
    refused(voting.post("/api/feedback", data=body), 413, "too_many_values")
    assert time.process_time() - began < 1
    one = {"prediction_id": "x", "reward": 1}
    refused(vote(voting, [one] * 1001), 413, "too_many_votes")


def test_of_a_list_all_votes_are_stored_or_none(
    voting: FlaskClient, seven: bytes, tmp_path: Path
) -> None:
    good = {"prediction_id": ask(voting, seven)["prediction_id"], "reward": 1}
    bad = {"prediction_id": good["prediction_id"], "label": "cat"}
    assert refused(vote(voting, [good, bad]), 422, "unknown_label")["index"] == 1
    assert stored(tmp_path) == []


def test_with_keys_a_vote_needs_the_key_that_asked(
    with_keys: FlaskClient, seven: bytes, tmp_path: Path
) -> None:
    token = ask(with_keys, seven, **{"X-API-Key": ANN})["prediction_id"]
    content = {"prediction_id": token, "reward": 0}
    refused(vote(with_keys, content), 401, "missing_key")
    refused(vote(with_keys, content, **{"X-API-Key": BOB}), 403, "foreign_prediction")
    assert vote(with_keys, content, **{"X-API-Key": ANN}).status_code == 202
    (found,) = stored(tmp_path)
    assert (found.voter, found.by_admin) == ("key:ann", False)
    label = {"prediction_id": token, "label": "7"}
    assert vote(with_keys, label, **{"X-API-Key": ADMIN}).status_code == 202
    (found,) = stored(tmp_path)
    assert (found.voter, found.by_admin, found.label) == ("key:boss", True, 7)


def test_votes_count_for_the_rate_limit(
    make_client: Callable[..., FlaskClient], lenets: Path, tmp_path: Path
) -> None:
    client = make_client(weights=lenets, feedback=url_of(tmp_path), rate_limit="2/hour")
    for _ in range(2):
        assert vote(client, {}).status_code == 400
    assert refused(vote(client, {}), 429, "rate_limited")


def test_an_admin_deletes_by_key_by_time_and_by_prediction(
    with_keys: FlaskClient, seven: bytes, tmp_path: Path
) -> None:
    def ask_and_vote(key: str) -> str:
        token: str = ask(with_keys, seven, **{"X-API-Key": key})["prediction_id"]
        vote(with_keys, {"prediction_id": token, "reward": 1}, **{"X-API-Key": key})
        return token

    def delete(query: str, key: str = ADMIN) -> TestResponse:
        return with_keys.delete(f"/api/feedback?{query}", headers={"X-API-Key": key})

    first = ask_and_vote(ANN)
    for _ in range(2):
        ask_and_vote(ANN)
    ask_and_vote(BOB)
    refused(delete("key=ann", ANN), 403, "admin_key_needed")
    assert delete(f"prediction_id={first}").json == {"deleted": 1}
    assert delete(f"prediction_id={first}").json == {"deleted": 0}
    assert delete("key=ann").json == {"deleted": 2}
    assert delete("before=2020-01-01").json == {"deleted": 0}
    assert [one.voter for one in stored(tmp_path)] == ["key:bob"]
    assert delete("before=2100-01-01T00:00:00Z").json == {"deleted": 1}
    assert rows(tmp_path) == []
    for query in (
        "",
        "key=ann&before=2020-01-01",
        "key=ann&key=bob",
        *("key=", "key=%00", "key=%25", "key=a'--", "key=address:x", f"key={'a' * 65}"),
        *("before=", "before=yesterday", "before=2026-13-01", "before=0000-01-01"),
        *("before=2026-11-28T24:01", "before=99999-01-01", "before=%EF%BC%92026-11-28"),
    ):
        refused(delete(query), 400, "bad_parameter")
    refused(delete("all=true"), 400, "unknown_parameter")
    refused(delete("prediction_id=x"), 404, "unknown_prediction")


@pytest.mark.parametrize("name", ["a_b", "a.b", "a-", "____", "%", "*"])
def test_the_name_of_a_key_is_no_pattern(tmp_path: Path, name: str) -> None:
    store = open_store(url_of(tmp_path))
    keep_predictions(store, [replace(prediction("one"), asker="key:aXb")])
    assert delete_key(store, f"key:{name}") == 0
    close_store(store)


def test_deleted_pictures_are_not_left_in_the_file(
    with_keys: FlaskClient, seven: bytes, tmp_path: Path
) -> None:
    token = ask(with_keys, seven, **{"X-API-Key": ANN})["prediction_id"]
    vote(with_keys, {"prediction_id": token, "reward": 1}, **{"X-API-Key": ANN})
    (found,) = stored(tmp_path)
    row = found.prediction.pixels[14].tobytes()  # through the middle of the seven

    def files() -> bytes:
        return b"".join(path.read_bytes() for path in tmp_path.glob("votes.db*"))

    assert row in files()
    with_keys.delete("/api/feedback?key=ann", headers={"X-API-Key": ADMIN})
    assert row not in files()


def test_expired_pictures_are_not_left_in_the_file_either(tmp_path: Path) -> None:
    one = writer.Writer(url_of(tmp_path), wait=1)
    row = np.arange(28, dtype=np.uint8).tobytes()
    pixels = np.frombuffer(28 * row, np.uint8).reshape(28, 28, 1)

    def left() -> bool:
        return row in b"".join(path.read_bytes() for path in tmp_path.glob("votes.db*"))

    assert one.put(prediction("brief", pixels=pixels, expires=time.time() + 1))
    one.do(lambda store: None)
    assert left()
    reader = sqlite3.connect(tmp_path / "votes.db", isolation_level=None)
    reader.execute("BEGIN")  # a learner, for instance, reads just then
    reader.execute("SELECT * FROM predictions").fetchall()
    wait_until(lambda: not rows(tmp_path))
    assert left()  # the log file holds what the reader may still ask for
    reader.close()
    wait_until(lambda: not left())
    one.close()


def test_the_learning_shows_votes_by_day_and_label_and_the_live_accuracy(
    voting: FlaskClient, seven: bytes
) -> None:
    for content in ({"reward": 1}, {"reward": 1}, {"reward": 0}, {"label": "1"}):
        vote(voting, {"prediction_id": ask(voting, seven)["prediction_id"], **content})
    learned = voting.get("/api/mnist/lenet/learning").json
    assert (learned["champion"], learned["votes"], learned["events"]) == (4, 4, [])
    (day,) = learned["by_day"]
    assert (day["label"], day["up"], day["down"], day["labelled"]) == ("7", 2, 2, 1)
    (version,) = learned["by_version"]
    assert (version["version"], version["share_up"]) == (4, 0.5)


def test_swagger_shows_a_vote(voting: FlaskClient) -> None:
    specification = voting.get("/swagger.json").json
    (body,) = specification["paths"]["/api/feedback"]["post"]["parameters"]
    assert body["schema"] == {"$ref": "#/definitions/Vote"}
    assert specification["definitions"]["Vote"]["properties"]["reward"]["example"] == 1
    example = specification["paths"]["/predict"]["post"]["responses"]["200"]["examples"]
    assert "predictions" in json.dumps(example)


def test_answers_go_out_while_the_store_cannot_be_written(
    voting: FlaskClient, seven: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = ask(voting, seven)["prediction_id"]
    vote(voting, {"prediction_id": token, "reward": 1})
    blocker = sqlite3.connect(tmp_path / "votes.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")  # another program holds the file
    try:
        assert ask(voting, seven)["label"] == "7"
        answer = vote(voting, {"prediction_id": token, "reward": 0})
        assert "nothing was changed" in refused(answer, 503, "feedback_unavailable")["message"]
        assert answer.headers["Retry-After"]
        monkeypatch.setattr(writer, "MOST_WAITING_BYTES", 0)  # as if the queue were full
        assert "prediction_id" not in ask(voting, seven)
        lost = 'metaplastic_feedback_lost_total{reason="no_room"} 1.0'
        assert lost in voting.get("/metrics").text
    finally:
        blocker.close()
    wait_until(lambda: voting.get("/api/mnist/lenet/learning").status_code == 200)
    (found,) = stored(tmp_path)
    assert found.reward == 1  # the refused vote has not been stored later


def test_a_vote_that_takes_too_long_is_undone_and_one_in_its_commit_is_awaited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_PATIENCE", 0.2)
    one = writer.Writer(url_of(tmp_path), wait=60)
    told, outcomes = threading.Event(), []

    def slow(store: Store) -> None:
        with writing(store):
            told.wait(20)
        outcomes.append("written")

    with pytest.raises(RequestError, match="nothing was changed"):
        one.do(slow)
    told.set()
    one.do(lambda store: None)  # the first is over
    assert outcomes == []

    def begun(store: Store) -> str:
        with writing(store):
            pass
        time.sleep(0.3)  # as a slow disk: longer than the patience, and less than twice
        return "written"

    assert one.do(begun) == "written"
    told.clear()

    def hanging(store: Store) -> None:
        with writing(store):
            pass
        told.wait(20)

    with pytest.raises(RequestError, match="it may be stored or not"):
        one.do(hanging)
    told.set()
    one.close()


def test_a_job_that_hangs_makes_others_fail_at_once(tmp_path: Path) -> None:
    one = writer.Writer(url_of(tmp_path), wait=60)
    go_on = threading.Event()
    hanging = threading.Thread(target=lambda: one.do(lambda store: go_on.wait(20)), daemon=True)
    # The first waits for three seconds and is refused.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "_PATIENCE", 0.1)
        patch.setattr(writer, "_STUCK", 0.0)
        patch.setattr(threading, "excepthook", lambda _: None)
        hanging.start()
        hanging.join()
        began = time.monotonic()
        with pytest.raises(RequestError) as refusal:
            one.do(lambda store: None)
        assert refusal.value.status == 503
        assert time.monotonic() - began < 0.1
    go_on.set()
    one.close()


def test_what_is_queued_is_written_when_the_process_ends(
    voting: FlaskClient, seven: bytes, tmp_path: Path
) -> None:
    for _ in range(3):
        ask(voting, seven)
    voting.application.extensions["feedback"]._writer.close()
    assert len(rows(tmp_path)) == 3


def test_an_answer_in_the_last_moment_is_stored_too(tmp_path: Path) -> None:
    one = writer.Writer(url_of(tmp_path), wait=60)
    ending = threading.Thread(target=one.close)

    def last(store: Store) -> None:
        ending.start()
        wait_until(lambda: one._stopping)
        assert one.put(prediction("last"))  # the thread has written what was queued before

    one.do(last)
    ending.join(60)
    assert [row[0] for row in rows(tmp_path)] == ["last"]


def test_what_cannot_be_stored_before_the_end_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer, "_FAREWELL", 0.1)
    one = writer.Writer(url_of(tmp_path), wait=60)
    one.do(lambda store: None)
    blocker = sqlite3.connect(tmp_path / "votes.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with caplog.at_level("ERROR", "gunicorn.error"):
        assert one.put(prediction("lost"))
        one.close()
    blocker.close()
    assert "1 predictions were not stored before the end" in caplog.text


def prediction(name: str, **more: Any) -> Prediction:
    """A prediction with a picture, made up."""
    now = time.time()
    given = {"made": now, "expires": now + 60, "pixels": np.full((28, 28, 1), 7, np.uint8)} | more
    return Prediction(name, "mnist", "lenet", "metaplastic", 4, 7, "key:ann", **given)


@pytest.mark.parametrize(
    "url", ["mysql://x/y", "sqlite://", "feedback.db", "postgresql://host/votes"]
)
def test_other_stores_are_refused_at_the_start(url: str) -> None:
    with pytest.raises(SettingsError, match=r"METAPLASTIC_FEEDBACK: expected sqlite:///FILE"):
        Settings.from_environment({"METAPLASTIC_FEEDBACK": url})


def test_a_wrong_url_is_told_without_its_password() -> None:
    for url in ("postgres://ann:secret@host/votes", "mysql://ann:p@ss/secret@host/votes"):
        with pytest.raises(SettingsError, match=r"//\*\*\*@host") as refusal:
            Settings.from_environment({"METAPLASTIC_FEEDBACK": url})
        assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "url", ["sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true", "sqlite:///x?timeout=0"]
)
def test_a_store_that_is_no_file_is_refused(url: str) -> None:
    with pytest.raises(VotesError, match="expected sqlite:///FILE"):
        open_store(url)


def test_a_canary_needs_votes() -> None:
    with pytest.raises(SettingsError, match="METAPLASTIC_CANARY"):
        Settings.from_environment({"METAPLASTIC_CANARY": "0.1"})
    with pytest.raises(SettingsError, match="a number from 0 to 1"):
        Settings.from_environment({"METAPLASTIC_CANARY": "10"})


def test_a_store_that_cannot_be_opened_prevents_the_start(lenets: Path, tmp_path: Path) -> None:
    missing = f"sqlite:///{tmp_path / 'no' / 'folder.db'}"
    with pytest.raises(Exception, match="unable to open database file"):
        create_app(Settings(weights=lenets, feedback=missing))


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    close_store(open_store(url_of(tmp_path)))
    with sqlite3.connect(tmp_path / "votes.db") as connection:
        connection.execute("UPDATE about SET value = '99' WHERE name = 'schema'")
    with pytest.raises(VotesError, match="have version 99"):
        open_store(url_of(tmp_path))


def test_a_store_of_another_version_is_left_as_it_is(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "votes.db") as connection:
        connection.execute("CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
        connection.execute("INSERT INTO about VALUES ('schema', '2')")
    with pytest.raises(VotesError, match="have version 2"):
        open_store(url_of(tmp_path))
    with sqlite3.connect(tmp_path / "votes.db") as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [
            ("about",),
            ("sqlite_autoindex_about_1",),
        ]
        assert connection.execute("SELECT * FROM about").fetchall() == [("schema", "2")]


@pytest.mark.parametrize("secret", ["", "00", "x" * 64])
def test_a_store_with_a_broken_secret_prevents_the_start(
    lenets: Path, tmp_path: Path, secret: str
) -> None:
    close_store(open_store(url_of(tmp_path)))
    with sqlite3.connect(tmp_path / "votes.db") as connection:
        connection.execute("UPDATE about SET value = ? WHERE name = 'secret'", (secret,))
    with pytest.raises(StartError, match="its secret is not 64 hexadecimal digits"):
        create_app(Settings(weights=lenets, feedback=url_of(tmp_path)))


def test_what_is_stored_already_does_not_stop_what_comes_with_it(tmp_path: Path) -> None:
    # So it is when a connection was lost in a commit that had succeeded.
    store = open_store(url_of(tmp_path))
    keep_predictions(store, [prediction("one")])
    record_votes(store, [NewVote("one", "key:ann", reward=1)])
    keep_predictions(store, [prediction("one"), prediction("two")])
    close_store(store)
    assert {row[0] for row in rows(tmp_path)} == {"one", "two"}
    assert [one.reward for one in stored(tmp_path)] == [1]


def test_votes_about_one_prediction_in_one_list_are_taken_in_their_order(tmp_path: Path) -> None:
    store = open_store(url_of(tmp_path))
    keep_predictions(store, [prediction("one"), prediction("two")])
    up, down = (NewVote("one", "key:ann", reward=reward) for reward in (1, 0))
    other = NewVote("two", "key:ann", label=3)
    found = record_votes(store, [up, up, other, down])
    assert [one.changed for one in found] == [True, False, True, True]
    assert {one.prediction.id: (one.reward, one.label) for one in stored(tmp_path)} == {
        "one": (0, None),
        "two": (None, 3),
    }
    (before,) = (one.voted for one in stored(tmp_path) if one.prediction.id == "one")
    assert [one.changed for one in record_votes(store, [up, down])] == [True, True]
    (after,) = (one.voted for one in stored(tmp_path) if one.prediction.id == "one")
    assert after == before  # it ended as it was
    close_store(store)


def test_a_file_that_is_replaced_while_the_service_runs_is_noticed(
    voting: FlaskClient, seven: bytes, tmp_path: Path
) -> None:
    before = ask(voting, seven)["prediction_id"]
    assert vote(voting, {"prediction_id": before, "reward": 1}).status_code == 202
    for path in tmp_path.glob("votes.db*"):
        path.unlink()
    refused(vote(voting, {"prediction_id": before, "reward": 0}), 503, "feedback_unavailable")
    after = ask(voting, seven)["prediction_id"]
    assert vote(voting, {"prediction_id": after, "reward": 0}).status_code == 202
    (found,) = stored(tmp_path)  # in the file that is there
    assert found.reward == 0


@pytest.mark.parametrize("content", [b"this is no database", b"SQLite format 3\0" + bytes(5000)])
def test_a_file_that_is_no_store_prevents_the_start(
    lenets: Path, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "votes.db").write_bytes(content)
    with pytest.raises(StartError, match=r"METAPLASTIC_FEEDBACK: sqlite:///.*votes\.db"):
        create_app(Settings(weights=lenets, feedback=url_of(tmp_path)))
    assert (tmp_path / "votes.db").read_bytes() == content


def test_a_failed_prediction_has_no_id(voting: FlaskClient, seven: bytes, blank: bytes) -> None:
    form = {"file": [(io.BytesIO(seven), "a.png"), (io.BytesIO(blank), "b.png")]}
    answer = voting.post("/predict?partial=true", data=form).json["predictions"]
    assert "prediction_id" in answer[0]
    assert "prediction_id" not in answer[1]
    assert upload(voting, file=seven).status_code == 200
