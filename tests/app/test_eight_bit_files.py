"""A model's 8-bit file runs where the processor has the instructions, and nothing hides which."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from app.catalogue.load import SAMPLES
from models.cards import INT8_MODEL, ONNX_MODEL
from models.packaging.quantise import quantise
from models.processor import multiplies_int8
from tests.app import made

RUNS = INT8_MODEL if multiplies_int8() else ONNX_MODEL
needs_int8 = pytest.mark.skipif(RUNS == ONNX_MODEL, reason="this processor runs no 8-bit files")

Put = Callable[..., Path]
Make = Callable[..., FlaskClient]


@pytest.fixture(scope="module")
def eight_bits(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The real LeNet in 8-bit integers; the samples have set its ranges."""
    folder = tmp_path_factory.mktemp("int8")
    (folder / ONNX_MODEL).write_bytes((made.LENET / ONNX_MODEL).read_bytes())
    pictures = [Image.open(path) for path in sorted((SAMPLES / "mnist").glob("*.png"))]
    digits = [np.array(picture.convert("L").resize((28, 28))) for picture in pictures]
    images = 1 - np.stack(digits)[..., None].astype(np.float32) / 255
    return quantise(folder, images).read_bytes()


@pytest.fixture
def put(put_model: Put, eight_bits: bytes) -> Put:
    """Puts a model with an 8-bit file, or with other `content` in its place."""

    def put(content: bytes = eight_bits, **changes: Any) -> Path:
        calibration = {**made.CARD["calibration"], "temperature": 60.0, "energy_threshold": -1e9}
        reached = {"calibration": calibration, "validation_accuracy": 0.75, "changed": 0.25}
        tested = {"test_accuracy": 0.5, "test_interval": [0.4, 0.6]}
        files = {**made.CARD["files"], INT8_MODEL: hashlib.sha256(content).hexdigest()}
        folder = put_model(**{"int8": {**reached, **tested}, "files": files, **changes})
        (folder / INT8_MODEL).write_bytes(content)
        return folder

    return put


def which(client: FlaskClient) -> tuple[str, float]:
    """The file that runs, and its accuracy; both routes say the same."""
    (row,) = client.get("/api/models").get_json()["models"]
    assert client.get("/api/mnist/lenet").get_json()["runs"] == row["runs"]
    return row["runs"], row["accuracy"]


def certainty(client: FlaskClient, seven: bytes) -> float:
    response = client.post("/predict", data=seven, content_type="image/png")
    (prediction,) = response.get_json()["predictions"]
    assert prediction["label"] == "7"
    probability: float = prediction["probability"]
    return probability


FLOAT = (ONNX_MODEL, made.CARD["test"]["accuracy"])


def test_it_runs_where_the_processor_can_and_the_answer_says_so(
    put: Put, make_client: Make
) -> None:
    put()
    assert which(make_client()) == ((INT8_MODEL, 0.5) if RUNS == INT8_MODEL else FLOAT)


@needs_int8
def test_its_own_calibration_makes_its_probabilities(
    put: Put, make_client: Make, seven: bytes
) -> None:
    put()
    assert certainty(make_client(int8="off"), seven) > 0.99
    assert certainty(make_client(), seven) < 0.5  # a temperature of 60


def test_the_setting_turns_it_off(put: Put, make_client: Make) -> None:
    put()
    assert which(make_client(int8="off")) == FLOAT


def test_without_the_file_the_other_runs(put: Put, make_client: Make) -> None:
    (put() / INT8_MODEL).unlink()
    assert which(make_client()) == FLOAT


def test_a_file_that_the_card_does_not_know_is_not_run(put: Put, make_client: Make) -> None:
    put(int8=None)
    assert which(make_client()) == FLOAT


def test_a_card_from_before_there_were_such_files_is_served(put: Put, make_client: Make) -> None:
    folder = put()
    card = json.loads((folder / "card.json").read_text())
    del card["int8"]
    (folder / "card.json").write_text(json.dumps(card))
    assert which(make_client()) == FLOAT


@needs_int8
def test_a_changed_file_is_refused_and_not_replaced_by_the_other(
    put: Put, put_model: Put, make_client: Make
) -> None:
    put_model("mnist/other/metaplastic/1", architecture="other")
    folder = put()
    with (folder / INT8_MODEL).open("ab") as file:
        file.write(b"more")
    client = make_client()
    assert client.get("/api/models").get_json()["unavailable"] == ["mnist/lenet/metaplastic/1"]
    assert client.get("/api/mnist/lenet").status_code == 404


@needs_int8
def test_a_file_that_is_no_model_is_refused_and_not_replaced_by_the_other(
    put: Put, put_model: Put, make_client: Make, seven: bytes
) -> None:
    put_model("mnist/other/metaplastic/1", architecture="other")
    put(b"not a model")
    client = make_client()
    response = client.post("/api/mnist/lenet", data=seven, content_type="image/png")
    assert response.status_code == 503
    assert response.get_json()["code"] == "model_unavailable"


def test_of_a_run_nothing_is_claimed_for_the_test_set(put: Put, make_client: Make) -> None:
    calibration = made.CARD["calibration"]
    put(
        test=None,
        int8={
            **{"calibration": calibration, "validation_accuracy": 0.75, "changed": 0.25},
            **{"test_accuracy": None, "test_interval": None},
        },
    )
    client = make_client()
    assert client.get("/api/mnist/lenet").status_code == 200
    (row,) = client.get("/api/models").get_json()["models"]
    assert row["runs"] == RUNS
    assert "accuracy" not in row


def test_the_demo_page_says_what_runs(put: Put, make_client: Make) -> None:
    put()
    page = make_client().get("/demo/models/mnist/lenet/metaplastic").get_data(as_text=True)
    assert ("Here, in 8-bit integers" in page) == (RUNS == INT8_MODEL)


@pytest.mark.parametrize("problem", [{"changed": 2.0}, {"calibration": {"temperature": 0}}])
def test_a_card_with_impossible_figures_is_left_out(
    put: Put, put_model: Put, make_client: Make, problem: dict[str, Any]
) -> None:
    put_model("mnist/other/metaplastic/1", architecture="other")
    folder = put()
    card = json.loads((folder / "card.json").read_text())
    card["int8"] = {**card["int8"], **problem}
    if "calibration" in problem:
        card["int8"]["calibration"] = {**made.CARD["calibration"], "temperature": 0}
    (folder / "card.json").write_text(json.dumps(card))
    unavailable = make_client().get("/api/models").get_json()["unavailable"]
    assert unavailable == ["mnist/lenet/metaplastic/1"]
