"""Everything around classification: catalogue, cards, health, documentation, unknown URLs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask_restx.schemas
import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.app.made import scores

LENET = "/api/mnist/lenet"


@pytest.fixture
def spec(client: FlaskClient) -> Any:
    return client.get("/swagger.json").json


def test_the_catalogue_lists_every_model(client: FlaskClient, repository: Path) -> None:
    rows = client.get("/api/models").json["models"]
    assert len(rows) == len(list(repository.rglob("card.json")))
    endpoints = {row["endpoint"] for row in rows}
    for endpoint in endpoints:
        assert sum(row["default"] for row in rows if row["endpoint"] == endpoint) == 1
        assert client.get(endpoint).status_code == 200


def test_an_endpoint_shows_its_card(client: FlaskClient, repository: Path) -> None:
    shown = client.get(LENET).json
    card = shown["card"]
    folder = repository / f"mnist/lenet/{card['rule']}/{card['version']}"
    stored = json.loads((folder / "card.json").read_text())
    # What a card of an earlier version leaves out is shown as it is understood.
    unsaid = {"energy_temperature": 1.0, "outputs": "logits"}
    stored["calibration"] = unsaid | stored["calibration"]
    stored["input"] = {"resize": "fit"} | stored["input"]
    assert card == {name: value for name, value in stored.items() if value is not None}
    assert shown["rules"][0]["rule"] == card["rule"]


def test_a_card_without_test_scores_is_shown(
    put_model: Callable[..., Path], make_client: Callable[..., FlaskClient]
) -> None:
    put_model(test=None, control=None)
    client = make_client()
    assert "test" not in client.get(LENET).json["card"]
    assert "accuracy" not in client.get("/api/models").json["models"][0]


@pytest.mark.parametrize("file", ["curves.png", "confusion.png"])
def test_the_models_pictures_are_served_where_there_are_any(
    put_model: Callable[..., Path], make_client: Callable[..., FlaskClient], seven: bytes, file: str
) -> None:
    folder = put_model()
    client = make_client()
    missing = client.get(f"{LENET}/{file}")
    assert (missing.status_code, missing.json["code"]) == (404, "no_such_picture")
    (folder / file).write_bytes(seven)
    picture = client.get(f"{LENET}/{file}")
    assert (picture.data, picture.content_type) == (seven, "image/png")
    picture.close()


def test_health(client: FlaskClient, repository: Path) -> None:
    assert client.get("/health/live").json == {"status": "live"}
    models = len(list(repository.rglob("card.json")))
    ready = {"status": "ready", "models": models, "unavailable": []}
    assert client.get("/health/ready").json == ready


def test_a_model_that_cannot_run_is_not_ready(
    put_model: Callable[..., Path], make_client: Callable[..., FlaskClient]
) -> None:
    (put_model(files={}) / "model.onnx").write_bytes(b"not a model")
    response = make_client().get("/health/ready")
    assert (response.status_code, response.json["code"]) == (503, "not_ready")
    assert "/" not in response.json["message"]


def test_a_model_opens_with_its_first_request_and_its_faults_are_logged(
    put_model: Callable[..., Path],
    make_client: Callable[..., FlaskClient],
    caplog: pytest.LogCaptureFixture,
) -> None:
    put_model("default")
    put_model("other", architecture="vgg", labels=["one", "two"], **scores(2))
    client = make_client()
    assert client.get("/health/ready").status_code == 200
    response = client.post("/api/mnist/vgg?sample=one")
    assert (response.status_code, response.json["code"]) == (503, "model_unavailable")
    assert "other/model.onnx: it answers (1, 10) for one image of 2 classes" in caplog.text
    assert client.post("/api/mnist/lenet?sample=one").status_code == 200


def test_an_unknown_endpoint_is_answered_with_those_there_are(client: FlaskClient) -> None:
    response = client.post("/api/mnist/nonet", data={"sample": "one"})
    assert (response.status_code, response.json["code"]) == (404, "unknown_endpoint")
    assert LENET in response.json["endpoints"]


def test_an_unknown_url_is_json(client: FlaskClient) -> None:
    response = client.get("/nowhere")
    assert (response.status_code, response.json["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "url"), [("GET", "/predict"), ("DELETE", LENET), ("POST", "/api/models")]
)
def test_a_wrong_method_is_json_and_names_the_right_ones(
    client: FlaskClient, method: str, url: str
) -> None:
    response = client.open(url, method=method)
    assert (response.status_code, response.json["code"]) == (405, "method_not_allowed")
    assert response.headers["Allow"]


def test_a_fault_of_the_service_tells_the_caller_nothing(
    application: Flask, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = type(application)("broken")
    from app.web import error_handlers as errors

    errors.register(broken, application.extensions["catalogue"], application.extensions["settings"])
    broken.add_url_rule("/fault", view_func=lambda: 1 // 0)
    response = broken.test_client().get("/fault")
    assert (response.status_code, response.json["code"]) == (500, "internal_error")
    assert "division" not in response.text
    assert "ZeroDivisionError" in caplog.text


def test_the_documentation_is_served_with_its_own_files(client: FlaskClient) -> None:
    page = client.get("/").text
    assert "swagger-ui-bundle.js" in page
    for line in page.splitlines():
        assert 'src="http' not in line
        assert 'href="http' not in line


def test_the_specification_is_valid_swagger(spec: Any) -> None:
    assert flask_restx.schemas.validate(spec)
    operations = [o for path in spec["paths"].values() for o in path.values()]
    identifiers = [operation["operationId"] for operation in operations]
    assert len(set(identifiers)) == len(identifiers)


def test_every_operation_has_a_summary_and_models_for_all_its_answers(spec: Any) -> None:
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (path, method)
            assert "500" in operation["responses"]
            for status, response in operation["responses"].items():
                assert response["description"]
                assert response["schema"], (path, method, status)
                if status >= "400":
                    shape = "ProtocolError" if path.startswith("/v2/") else "Error"
                    assert response["schema"] == {"$ref": f"#/definitions/{shape}"}


def test_every_classification_names_a_sample_that_swagger_sends(
    spec: Any, client: FlaskClient
) -> None:
    posts = {path: methods["post"] for path, methods in spec["paths"].items() if "post" in methods}
    assert {LENET, "/predict"} <= set(posts)
    for path, operation in posts.items():
        assert operation["consumes"] == ["multipart/form-data"]
        parameters = {parameter["name"]: parameter for parameter in operation["parameters"]}
        assert parameters["file"] | {"in": "formData", "type": "file"} == parameters["file"]
        sample = parameters["sample"]
        assert sample["in"] == "formData"
        assert sample["default"] in sample["enum"]
        query = {p["name"]: p["default"] for p in parameters.values() if "default" in p}
        form = {"sample": query.pop("sample")}
        response = client.post(
            path, query_string=query, data=form, content_type="multipart/form-data"
        )
        assert response.status_code == 200, response.text


def test_the_specification_knows_the_prefix_of_a_proxy(client: FlaskClient) -> None:
    assert client.get("/swagger.json").json["basePath"] == "/"
    behind = client.get("/swagger.json", environ_overrides={"SCRIPT_NAME": "/vision"})
    assert behind.json["basePath"] == "/vision"


def test_the_service_says_nothing_of_masks(spec: Any) -> None:
    assert "X-Fields" not in json.dumps(spec)


def test_a_model_tells_how_it_learned(client: FlaskClient) -> None:
    history = client.get(f"{LENET}/history").json
    card = client.get(LENET).json["card"]
    assert [row["epoch"] for row in history["epochs"]] == [
        *range(1, card["training"]["epochs"] + 1)
    ]
    best = history["epochs"][card["training"]["best_epoch"] - 1]
    assert best["val_accuracy"] == pytest.approx(card["validation"]["accuracy"], abs=1e-3)


def test_a_history_may_be_missing_or_have_gaps(
    put_model: Callable[..., Path], make_client: Callable[..., FlaskClient]
) -> None:
    folder = put_model()
    client = make_client()
    missing = client.get(f"{LENET}/history")
    assert (missing.status_code, missing.json["code"]) == (404, "no_history")
    (folder / "history.csv").write_text("epoch,loss,accuracy\n1,nan,0.5\n2,inf,\n")
    assert client.get(f"{LENET}/history").json["epochs"] == [
        {"epoch": 1, "accuracy": 0.5},
        {"epoch": 2},
    ]
