"""Swagger: grouped and ordered, with examples that are true."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image

from tests.app.asking import upload
from tests.app.made import put_linear

LENET = "/api/mnist/lenet"


def example(spec: Any, path: str, status: str, method: str = "post") -> Any:
    return spec["paths"][path][method]["responses"][status]["examples"]["application/json"]


@pytest.fixture
def spec(client: FlaskClient) -> Any:
    return client.get("/swagger.json").json


@pytest.fixture
def several(
    put_model: Callable[..., Path], make_client: Callable[..., FlaskClient], tmp_path: Path
) -> FlaskClient:
    """A service of two data sets, one of which has no samples."""
    put_model("lenet")
    put_model("vgg", architecture="vgg")
    for name in ("one", "two"):
        labels = ["wren", "robin"]
        put_linear(
            tmp_path / name, dataset="birds", architecture=name, style="photo", labels=labels
        )
    return make_client()


def test_the_example_of_a_classification_is_its_real_answer(spec: Any, client: FlaskClient) -> None:
    for path in (LENET, "/predict"):
        shown = example(spec, path, "200")
        name = shown["predictions"][0]["filename"].removesuffix(".png")
        assert client.post(f"{path}?sample={name}").json == shown


def test_the_example_of_a_comparison_is_its_real_answer(several: FlaskClient) -> None:
    spec = several.get("/swagger.json").json
    shown = example(spec, "/api/mnist/compare", "200")
    name = shown["results"][0]["prediction"]["filename"].removesuffix(".png")
    answered = several.post(f"/api/mnist/compare?sample={name}").json
    for result in (*shown["results"], *answered["results"]):
        assert result.pop("milliseconds") > 0
    assert answered == shown
    assert "examples" not in spec["paths"]["/api/birds/compare"]["post"]["responses"]["200"]


def test_the_routes_of_a_data_set_stand_together_and_classification_first(
    several: FlaskClient,
) -> None:
    spec = several.get("/swagger.json").json
    assert [tag["name"] for tag in spec["tags"]] == [
        "predict",
        "birds",
        "mnist",
        "models",
        "health",
        "v2",
    ]
    operations = [
        (operation["tags"], path, method)
        for path, methods in spec["paths"].items()
        for method, operation in methods.items()
    ]
    of_mnist = [(path, method) for tags, path, method in operations if tags == ["mnist"]]
    assert of_mnist[:2] == [(LENET, "post"), (LENET, "get")]
    assert of_mnist[-1] == ("/api/mnist/compare", "post")
    tags = [tags[0] for tags, _, _ in operations]
    assert [tag for place, tag in enumerate(tags) if tag not in tags[:place]] == [
        tag["name"] for tag in spec["tags"]
    ]


def test_every_error_has_an_example_of_its_status(spec: Any) -> None:
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            for status in operation["responses"]:
                if status >= "400":
                    shown = example(spec, path, status, method)
                    standard = path.startswith("/v2/")
                    assert ({"error"} if standard else {"message", "code"}) <= set(shown)


def test_the_examples_of_errors_are_the_services_own_words(spec: Any, client: FlaskClient) -> None:
    white = io.BytesIO()
    Image.new("L", (64, 64), 255).save(white, "PNG")
    for status, response in {
        "400": client.post(LENET),
        "404": client.post(f"{LENET}?sample=one&rule=none"),
        "415": upload(client, file=b"This is a text."),
        "422": upload(client, file=white.getvalue()),
    }.items():
        shown = example(spec, LENET, status)
        assert response.json["code"] == shown["code"]
        assert set(response.json) == set(shown)
        assert response.json["message"][:40] == shown["message"][:40]


def test_looking_at_the_documentation_opens_no_session_for_good(
    several: FlaskClient,
) -> None:
    application: Flask = several.application
    assert several.get("/swagger.json").status_code == 200
    catalogue = application.extensions["catalogue"]
    assert [model for model in catalogue if "network" in vars(model)] == []


def test_a_model_that_cannot_run_is_documented_without_an_example(
    put_model: Callable[..., Path], make_client: Callable[..., FlaskClient]
) -> None:
    put_model("good")
    (put_model("bad", architecture="bad", files={}) / "model.onnx").write_bytes(b"no model")
    spec = make_client().get("/swagger.json").json
    assert example(spec, LENET, "200")
    assert "examples" not in spec["paths"]["/api/mnist/bad"]["post"]["responses"]["200"]
