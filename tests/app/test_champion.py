"""The champion answers, in every protocol; a challenger answers a share where the two disagree."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from app.server.main import Server
from app.settings import Settings
from models.aliases import ALIASES, Aliases, read_aliases, set_aliases
from models.votes import CHALLENGER, PROMOTED, Both, events, note_event, open_store, votes
from tests.app.made import put_linear
from tests.app.test_feedback import ADMIN, hash_of, url_of, wait_until

FOLDER = Path("squares/tiny/metaplastic")
NAME = "squares-tiny-metaplastic"
LABELS = ["empty", "full"]


def always(answer: int) -> np.ndarray[Any, Any]:
    """Weights of a network that gives this answer to everything bright."""
    weights = np.zeros((28, 28, 1, 2))
    weights[..., answer] = 1
    return weights


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    """Three versions of a model: 1 and 2 answer `empty`, and 3 answers `full`."""
    folder = tmp_path / "weights" / FOLDER
    for version, answer in ((1, 0), (2, 0), (3, 1)):
        put_linear(
            folder / str(version),
            dataset="squares",
            architecture="tiny",
            style="garment",
            labels=LABELS,
            weights=always(answer),
            rule="metaplastic",
            version=version,
            default=True,
        )
    return folder


@pytest.fixture
def serve(
    make_client: Callable[..., FlaskClient], versions: Path, tmp_path: Path
) -> Callable[..., FlaskClient]:
    """A service with these versions."""
    return lambda **settings: make_client(weights=tmp_path / "weights", **settings)


def ask(client: FlaskClient, seven: bytes, query: str = "", **headers: str) -> Any:
    form = {"file": (io.BytesIO(seven), "seven.png")}
    return client.post(f"/api/squares/tiny{query}", data=form, headers=headers).json


def answering(client: FlaskClient, seven: bytes) -> set[int]:
    """Return the versions that answer by default, in all protocols."""
    tensor = {
        "inputs": [
            {
                "name": "images",
                "datatype": "FP32",
                "shape": [1, 28, 28, 1],
                "data": np.full(784, 0.5).tolist(),
            }
        ]
    }
    v2 = client.post(f"/v2/models/{NAME}/infer", json=tensor).json
    rows = {"instances": np.full((1, 28, 28, 1), 0.5).tolist()}
    probable = client.post(f"/v1/models/{NAME}:predict", json=rows).json["predictions"]
    (default,) = (row for row in client.get("/api/models").json["models"] if row["default"])
    metrics = client.get("/metrics").text
    (loaded,) = (line for line in metrics.splitlines() if 'default="true"' in line)
    metadata = client.get(f"/v1/models/{NAME}/labels/stable/metadata").json
    found = {
        ask(client, seven)["version"],
        client.post("/predict", data={"file": (io.BytesIO(seven), "a.png")}).json["version"],
        client.get("/api/squares/tiny").json["card"]["version"],
        client.post("/api/squares/compare", data={"file": (io.BytesIO(seven), "a.png")}).json[
            "results"
        ][0]["version"],
        int(v2["model_version"]),
        default["version"],
        int(loaded.partition('version="')[2].partition('"')[0]),
        int(metadata["model_spec"]["version"]),
    }
    # The network's own answer fits the version.
    assert np.argmax(probable[0]) == (1 if found == {3} else 0)
    return found


def test_without_an_alias_the_newest_answers(
    serve: Callable[..., FlaskClient], seven: bytes
) -> None:
    assert answering(serve(), seven) == {3}


def test_all_protocols_answer_with_the_champion(
    serve: Callable[..., FlaskClient], versions: Path, seven: bytes
) -> None:
    set_aliases(versions, champion=2, challenger=3)
    client = serve()
    assert answering(client, seven) == {2}
    # All versions are still there by their numbers.
    assert ask(client, seven, "?version=3")["version"] == 3
    index = client.post("/v2/repository/index").json
    assert {row["version"] for row in index} == {"1", "2", "3"}
    assert client.get(f"/v2/models/{NAME}").json["versions"] == ["1", "2", "3"]
    canary = client.get(f"/v1/models/{NAME}/labels/canary/metadata").json
    assert canary["model_spec"]["version"] == "3"


def test_a_rotten_file_of_aliases_leaves_the_newest_and_is_logged(
    serve: Callable[..., FlaskClient], versions: Path, seven: bytes
) -> None:
    (versions / ALIASES).write_text("{")
    client = serve()
    assert answering(client, seven) == {3}
    (problem,) = client.application.extensions["catalogue"].alias_problems
    assert f"{FOLDER / ALIASES}: is not JSON" in problem


def test_a_champion_that_is_not_served_is_replaced_and_never_by_the_challenger(
    serve: Callable[..., FlaskClient], versions: Path, seven: bytes
) -> None:
    set_aliases(versions, champion=9, challenger=3)
    client = serve()
    assert answering(client, seven) == {2}
    (problem,) = client.application.extensions["catalogue"].alias_problems
    assert "version 9, is not served. Version 2 answers." in problem


def test_the_master_notices_changed_aliases_once(
    serve: Callable[..., FlaskClient], versions: Path, tmp_path: Path
) -> None:
    server = Server(Settings(weights=tmp_path / "weights"), serve().application)
    assert not server.aliases_changed()
    set_aliases(versions, champion=1)
    assert server.aliases_changed()
    assert not server.aliases_changed()  # also if the reload has failed
    server.reload()
    assert server.catalogue.endpoints["squares/tiny"].find().card.version == 1
    assert not server.aliases_changed()
    (versions / ALIASES).unlink()
    assert server.aliases_changed()


def test_the_challenger_answers_its_share_of_disagreements_and_both_answers_are_stored(
    serve: Callable[..., FlaskClient], versions: Path, seven: bytes, tmp_path: Path
) -> None:
    set_aliases(versions, champion=2, challenger=3)
    client = serve(feedback=url_of(tmp_path), canary=0.5)
    by_version: dict[int, int] = {2: 0, 3: 0}
    for caller in range(60):
        from_address = {"environ_overrides": {"REMOTE_ADDR": f"192.0.2.{caller}"}}
        form = {"file": (io.BytesIO(seven), "seven.png")}
        answer = client.post("/api/squares/tiny", data=form, **from_address).json
        (prediction,) = answer["predictions"]
        by = prediction.get("version", answer["version"])
        assert prediction["label"] == LABELS[by == 3]
        by_version[by] += 1
        content = {"prediction_id": prediction["prediction_id"], "reward": int(by == 3)}
        assert client.post("/api/feedback", json=content).status_code == 202
    assert min(by_version.values()) >= 10  # a chance of one in 10 million
    found = votes(open_store(url_of(tmp_path)), "squares", "tiny")
    assert {one.prediction.both for one in found} == {Both(2, 0, 3, 1)}
    for one in found:
        assert one.prediction.canary == (one.prediction.version == 3)
        assert one.right == one.prediction.canary
    # The answers of each are counted as its own.
    metrics = client.get("/metrics").text
    assert f'predictions_total{{label="full",model="{NAME}",version="3"}}' in metrics
    assert f'predictions_total{{label="full",model="{NAME}",version="2"}}' not in metrics


def test_a_caller_gets_the_same_answer_about_the_same_picture(
    serve: Callable[..., FlaskClient], versions: Path, seven: bytes, tmp_path: Path
) -> None:
    set_aliases(versions, champion=2, challenger=3)
    answers: dict[int, set[str]] = {}
    for _ in range(2):  # also after a restart
        client = serve(feedback=url_of(tmp_path), canary=0.5)
        for strokes in range(20):
            picture = Image.new("L", (28, 28), 255)
            picture.paste(0, (4, 4, 8 + strokes, 24))
            file = io.BytesIO()
            picture.save(file, "PNG")
            for _ in range(3):
                (one,) = ask(client, file.getvalue(), "?preprocess=raw")["predictions"]
                answers.setdefault(strokes, set()).add(one["label"])
    assert all(len(labels) == 1 for labels in answers.values())
    assert set.union(*answers.values()) == set(LABELS)  # a chance of one in half a million


def test_where_the_two_agree_or_a_version_is_asked_for_the_challenger_never_answers(
    serve: Callable[..., FlaskClient], versions: Path, seven: bytes, tmp_path: Path
) -> None:
    set_aliases(versions, champion=2, challenger=1)
    client = serve(feedback=url_of(tmp_path), canary=1.0)
    (prediction,) = ask(client, seven)["predictions"]
    assert "version" not in prediction
    set_aliases(versions, champion=2, challenger=3)
    client = serve(feedback=url_of(tmp_path), canary=1.0)
    assert ask(client, seven)["predictions"][0]["version"] == 3
    (pinned,) = ask(client, seven, "?version=2")["predictions"]
    assert (pinned["label"], "version" in pinned) == ("empty", False)


def test_a_challenger_that_cannot_run_disturbs_nobody(
    serve: Callable[..., FlaskClient], versions: Path, seven: bytes, tmp_path: Path
) -> None:
    set_aliases(versions, champion=2, challenger=3)
    (versions / "3" / "model.onnx").write_bytes(b"rotten")
    client = serve(feedback=url_of(tmp_path), canary=1.0)
    answer = ask(client, seven)
    assert (answer["version"], answer["predictions"][0]["label"]) == (2, "empty")


def test_a_vote_about_an_answer_of_a_challenger_that_is_gone_is_stored(
    serve: Callable[..., FlaskClient], versions: Path, seven: bytes, tmp_path: Path
) -> None:
    set_aliases(versions, champion=2, challenger=3)
    client = serve(feedback=url_of(tmp_path), canary=1.0)
    (prediction,) = ask(client, seven)["predictions"]
    assert prediction["version"] == 3
    set_aliases(versions, challenger=None)
    shutil.rmtree(versions / "3")
    client = serve(feedback=url_of(tmp_path), canary=1.0)
    content = {"prediction_id": prediction["prediction_id"], "label": "full"}
    assert client.post("/api/feedback", json=content).status_code == 202
    (row,) = client.get("/api/squares/tiny/learning").json["by_version"]
    assert (row["version"], row["up"], row["labelled"]) == (3, 1, 1)


@pytest.fixture
def managed(
    serve: Callable[..., FlaskClient], versions: Path, tmp_path: Path
) -> Callable[[str], Any]:
    """POST as an admin to a service that has a champion and a challenger."""
    keys = tmp_path / "keys"
    keys.write_text(f"boss admin {hash_of(ADMIN)}\nann user {hash_of('ann')}\n")
    client = serve(feedback=url_of(tmp_path), keys=keys)

    def post(what: str, key: str = ADMIN) -> Any:
        return client.post(f"/api/squares/tiny/{what}", headers={"X-API-Key": key})

    return post


def test_an_admin_promotes_and_rolls_back(
    managed: Callable[..., Any], versions: Path, tmp_path: Path, serve: Callable[..., FlaskClient]
) -> None:
    for what in ("learn", "promote", "rollback"):
        assert managed(what, "ann").status_code == 403
    assert managed("promote").json["code"] == "no_such_alias"
    assert "squares-tiny-metaplastic: there is no challenger" in managed("promote").json["message"]
    set_aliases(versions, champion=2, challenger=3)
    promoted = managed("promote")
    assert (promoted.status_code, promoted.json) == (202, {"status": "promoted", "champion": 3})
    assert serve().get("/api/squares/tiny").json["card"]["version"] == 3
    assert managed("rollback").json == {"status": "rolled back", "champion": 2}
    assert managed("rollback").status_code == 409
    store = open_store(url_of(tmp_path))
    kinds = [event.kind for event in events(store, "squares", "tiny")]
    assert kinds == ["rolled back", PROMOTED]


def test_the_first_promotion_can_be_taken_back_too(
    managed: Callable[..., Any], versions: Path
) -> None:
    # Nobody has named a champion: the newest answers.
    set_aliases(versions, challenger=2)
    assert managed("promote").json["champion"] == 2
    assert managed("rollback").json["champion"] == 3


def test_a_version_that_is_gone_or_broken_is_neither_promoted_nor_returned_to(
    managed: Callable[..., Any], versions: Path
) -> None:
    set_aliases(versions, champion=2, challenger=9, former=8)
    for what, version in (("promote", 9), ("rollback", 8)):
        answer = managed(what)
        assert (answer.status_code, answer.json["code"]) == (409, "unusable_version")
        assert f"{NAME}: version {version} is gone" in answer.json["message"]
    (versions / "3" / "model.onnx").unlink()
    set_aliases(versions, challenger=3, former=3)
    for what in ("promote", "rollback"):
        answer = managed(what)
        assert (answer.status_code, answer.json["code"]) == (409, "unusable_version")
        assert f"{NAME}/3/model.onnx: cannot be read" in answer.json["message"]
        assert str(versions) not in answer.json["message"]
    assert read_aliases(versions) == Aliases(champion=2, challenger=3, former=3)


def test_a_challenger_with_other_labels_answers_nobody_and_is_not_promoted(
    managed: Callable[..., Any],
    serve: Callable[..., FlaskClient],
    versions: Path,
    seven: bytes,
    tmp_path: Path,
) -> None:
    put_linear(
        versions / "4",
        dataset="squares",
        architecture="tiny",
        style="garment",
        labels=LABELS[::-1],
        weights=always(1),
        rule="metaplastic",
        version=4,
    )
    set_aliases(versions, champion=2, challenger=4)
    refused = managed("promote")
    assert (refused.status_code, refused.json["code"]) == (409, "unusable_version")
    assert "version 4 has other labels than version 2" in refused.json["message"]
    (prediction,) = ask(serve(feedback=url_of(tmp_path), canary=1.0), seven)["predictions"]
    assert (prediction["label"], "version" in prediction) == ("empty", False)


def test_a_broken_file_of_aliases_is_not_replaced(
    managed: Callable[..., Any], versions: Path
) -> None:
    (versions / ALIASES).write_text("{")
    for what in ("promote", "rollback"):
        answer = managed(what)
        assert (answer.status_code, answer.json["code"]) == (409, "no_such_alias")
        assert f"{NAME}/{ALIASES}: is not JSON" in answer.json["message"]
    assert (versions / ALIASES).read_text() == "{"


def test_the_learner_sees_the_wish_and_callers_see_the_gates(
    managed: Callable[..., Any],
    versions: Path,
    tmp_path: Path,
    serve: Callable[..., FlaskClient],
) -> None:
    assert managed("learn").json == {"status": "requested"}
    store = open_store(url_of(tmp_path))
    (event,) = events(store, "squares", "tiny")
    assert event.kind == "requested"
    gate = {"gate": "home", "verdict": "passed", "reason": "0.01 points", "votes": 5000}
    content = {"version": 3, "outcome": "waiting", "gates": [gate], "read": 12.0}
    note_event(store, CHALLENGER, "squares", "tiny", "metaplastic", content)
    set_aliases(versions, champion=2, challenger=3)
    client = serve(feedback=url_of(tmp_path))
    learned = client.get("/api/squares/tiny/learning").json
    assert (learned["champion"], learned["challenger"]) == (2, 3)
    assert learned["last_challenger"]["gates"] == [gate]
    assert [one["kind"] for one in learned["events"]] == ["challenger", "requested"]
    wait_until(lambda: 'verdict="passed"' in client.get("/metrics").text)
    metrics = client.get("/metrics").text
    assert f'metaplastic_alias{{alias="champion",model="{NAME}"}} 2.0' in metrics
    assert f'metaplastic_alias{{alias="challenger",model="{NAME}"}} 3.0' in metrics
    gate_of = f'metaplastic_challenger_gate{{gate="home",model="{NAME}",verdict="passed"'
    assert f'{gate_of},version="3"}} 1.0' in metrics
