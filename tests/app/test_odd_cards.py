"""One model whose card nobody can believe is left out by name; all others are served as ever."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from tests.app.asking import LENET
from tests.app.made import put_linear

NAN, INFINITY = float("nan"), float("inf")
ODD: dict[str, tuple[Callable[[Any], object], str]] = {
    "an accuracy of NaN": (lambda c: c["test"].update(accuracy=NAN), "test: accuracy"),
    "an infinite temperature": (
        lambda c: c["calibration"].update(temperature=INFINITY),
        "calibration: temperature",
    ),
    "NaN in the recipe": (lambda c: c["training"]["recipe"].update(rate=NAN), "recipe: rate"),
    "an input of 0x0": (lambda c: c["input"].update(height=0, width=0), "input: height"),
    "an input of 2e9x2e9": (
        lambda c: c["input"].update(height=2 * 10**9, width=2 * 10**9),
        "input: height",
    ),
    "eight labels": (lambda c: c.update(labels=c["labels"][:8]), "per_class: expected 8 entries"),
    "half a character": (lambda c: c["labels"].__setitem__(0, "\ud800"), "labels: [0]"),
}


def check_others_are_served(client: FlaskClient, seven: bytes, problem: str) -> None:
    """All routes that many models share, and those of the good model."""
    models = client.get("/api/models").json
    assert [row["endpoint"] for row in models["models"]] == [LENET]
    assert models["unavailable"] == ["odd"]
    assert problem in client.application.extensions["catalogue"].problems["odd"]
    for path in (
        "/",
        "/swagger.json",
        "/health/ready",
        "/demo",
        "/demo/models",
        "/v2/models/stats",
    ):
        assert client.get(path).status_code == 200, path
    kind = "image/png"
    for path in ("/predict", LENET, "/api/mnist/compare", "/api/mnist/compare?rule=all"):
        assert client.post(path, data=seven, content_type=kind).status_code == 200, path
    assert client.post("/v2/repository/index").status_code == 200


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_card_is_left_out_and_all_else_is_served(
    put_model: Callable[..., Path],
    make_client: Callable[..., FlaskClient],
    seven: bytes,
    odd: str,
) -> None:
    change, problem = ODD[odd]
    put_model("good")
    path = put_model("odd", architecture="alexnet") / "card.json"
    card = json.loads(path.read_text())
    change(card)
    path.write_text(json.dumps(card))
    check_others_are_served(make_client(), seven, problem)


def test_a_network_that_answers_nan_is_left_out_once_it_is_opened(
    put_model: Callable[..., Path],
    make_client: Callable[..., FlaskClient],
    seven: bytes,
    tmp_path: Path,
) -> None:
    put_model("good")
    lost = np.full((28, 28, 1, 10), NAN)
    labels = [*"0123456789"]
    put_linear(
        tmp_path / "odd",
        dataset="mnist",
        architecture="tiny",
        style="digit",
        labels=labels,
        weights=lost,
    )
    client = make_client()
    client.application.extensions["catalogue"].open_first_sessions()  # as a new worker does
    check_others_are_served(client, seven, "it answers NaN or infinity")
