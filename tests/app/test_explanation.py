"""POST /api/<dataset>/<architecture>/explain: which parts of an image speak for a class."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image

from app.errors import RequestError
from app.predict import explain
from app.predict.explain import MOST_EVALUATIONS, heat_map
from models.cards import ImageInput
from tests.app.asking import refused, send_many, upload
from tests.app.made import put_linear

EXPLAIN = "/api/mnist/lenet/explain"
CORNER = "/api/corners/linear/explain"


def pixels_of(png: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(png)))


def heat_of(response: Any) -> np.ndarray[Any, Any]:
    assert response.status_code == 200, response.text
    return np.array(response.json["heat"])


@pytest.fixture
def corners(tmp_path: Path, make_client: Callable[..., FlaskClient]) -> FlaskClient:
    """A service whose model looks at nothing but the upper left and the lower right corner."""
    weights = np.zeros((32, 32, 3, 2))
    weights[:8, :8, :, 0] = 1
    weights[-8:, -8:, :, 1] = 1
    folder = tmp_path / "corners"
    names = {"dataset": "corners", "architecture": "linear", "labels": ["upper left", "lower"]}
    put_linear(folder, style="photo", weights=weights, **names)
    return make_client()


@pytest.fixture
def bright() -> bytes:
    """A picture that is lighter in the upper left corner than elsewhere."""
    picture = np.full((32, 32, 3), 160, np.uint8)
    picture[:8, :8] = 255
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_heat_of_a_seven_lies_on_its_ink(client: FlaskClient, seven: bytes) -> None:
    response = upload(client, EXPLAIN, file=seven)
    heat, answer = heat_of(response), response.json
    assert (answer["label"], answer["index"], answer["unit"]) == ("7", 7, "bits")
    ink = pixels_of(base64.b64decode(answer["prepared"])) > 30
    assert heat.shape == ink.shape == (28, 28)
    assert ink[np.unravel_index(heat.argmax(), heat.shape)]
    assert heat[ink].mean() > 3 * abs(heat[~ink]).mean()
    assert heat.max() > 1


def test_a_region_that_alone_matters_is_found_exactly(corners: FlaskClient, bright: bytes) -> None:
    heat = heat_of(upload(corners, CORNER, file=bright))
    assert heat[:6, :6].min() > 1  # what the answer is about
    assert heat[-6:, -6:].max() < -1  # what speaks for the other class
    assert abs(heat[:12, 20:]).max() == abs(heat[20:, :12]).max() == 0


def test_another_class_may_be_asked_for_and_sees_the_opposite(
    corners: FlaskClient, bright: bytes
) -> None:
    most = heat_of(upload(corners, CORNER, file=bright))
    other = upload(corners, f"{CORNER}?label=lower", file=bright)
    assert (other.json["label"], other.json["index"]) == ("lower", 1)
    np.testing.assert_allclose(heat_of(other), -most, atol=1e-9)


def test_the_cost_is_bounded_and_told(client: FlaskClient, corners: FlaskClient) -> None:
    for service, url in ((client, f"{EXPLAIN}?sample=one"), (corners, CORNER)):
        body = b"" if "sample" in url else _png(400, 300)
        answer = service.post(url, data=body, content_type="image/png").json
        assert 100 < answer["evaluations"] <= MOST_EVALUATIONS


@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [
        ("", None, "application/json"),
        ("", "*/*", "application/json"),
        ("", "image/png", "image/png"),
        ("", "image/*, application/json;q=0.5", "image/png"),
        ("&format=png", "application/json", "image/png"),
        ("&format=json", "image/png", "application/json"),
    ],
)
def test_the_answer_is_numbers_or_a_picture_as_the_caller_likes(
    client: FlaskClient, query: str, accept: str | None, kind: str
) -> None:
    headers = {"Accept": accept} if accept else {}
    response = client.post(f"{EXPLAIN}?sample=seven{query}", headers=headers)
    assert (response.status_code, response.content_type) == (200, kind)
    if kind == "image/png":
        drawn = pixels_of(response.data).astype(int)
        assert drawn.shape == (280, 280, 3)
        orange = drawn[..., 0] - drawn[..., 2]
        heat = heat_of(client.post(f"{EXPLAIN}?sample=seven"))
        hottest = np.array(np.unravel_index(heat.argmax(), heat.shape)) * 10 + 5
        assert orange[tuple(hottest)] > 150


def test_the_image_that_is_explained_is_the_one_that_is_classified(
    client: FlaskClient, seven: bytes
) -> None:
    explained = upload(client, EXPLAIN, file=seven).json
    (seen,) = upload(client, "/api/mnist/lenet?prepared=true", file=seven).json["predictions"]
    for name in ("prepared", "label", "probability", "preprocessing", "filename"):
        assert explained[name] == seen[name]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("label=eleven", 404, "unknown_label"),
        ("rule=none", 404, "unknown_rule"),
        ("format=gif", 400, "bad_parameter"),
        ("preprocess=x", 400, "bad_parameter"),
        ("top=3", 400, "unknown_parameter"),
    ],
)
def test_what_cannot_be_asked_is_said(
    client: FlaskClient, query: str, status: int, code: str
) -> None:
    refused(client.post(f"{EXPLAIN}?sample=one&{query}"), status, code)


def test_one_image_that_can_be_used_is_expected(
    client: FlaskClient, seven: bytes, blank: bytes
) -> None:
    refused(client.post(EXPLAIN), 400, "missing_image")
    refused(upload(client, EXPLAIN, file=blank), 422, "no_content")
    refused(send_many(client, ("a", seven), ("b", seven), url=EXPLAIN), 413, "too_many_images")


def test_a_network_too_slow_to_explain_is_given_up_in_time(application: Flask) -> None:
    model = application.extensions["catalogue"].default.find()
    past = 0.0  # of the clock that counts from the machine's start
    pixels = np.zeros((28, 28, 1), np.float32)
    with pytest.raises(RequestError) as caught:
        heat_map(model.network, pixels, 0.0, 0, model.card.input, model.card.calibration, past)
    assert (caught.value.status, caught.value.code) == (503, "explanation_too_slow")


def _png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 80).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def test_a_slow_network_is_asked_about_coarse_patches_alone(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(explain, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def slow(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        now[0] += 0.1 * len(images)
        return np.stack([images.mean((1, 2, 3)), np.zeros(len(images))], 1).astype(np.float32)

    pixels, photo = np.ones((224, 224, 3), np.float32), ImageInput(224, 224, 3, "photo", (0,), (1,))
    asked = (slow, pixels, 1 / np.log(2), 0, photo, None)  # the evidence of the whole in bits
    heat, coarse = heat_map(*asked, deadline=10)
    assert coarse == 64
    now[0] = 0.0
    finer, both = heat_map(*asked, deadline=100)
    assert both == MOST_EVALUATIONS - 1
    assert heat.shape == finer.shape == (224, 224)
    assert (heat > 0).all()
    assert heat.mean() == pytest.approx(finer.mean(), rel=0.6)  # coarse patches hide more
