"""The application without a server, on real models, its answers held against its documentation."""

import functools
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from app import create_app
from app.catalogue.load import SAMPLES
from app.settings import Settings
from tests.app import made

BUNDLED = Path(__file__).parents[2] / "weights"
SEVEN = (SAMPLES / "mnist" / "seven.png").read_bytes()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The models to test with: those of the repository, or those of METAPLASTIC_WEIGHTS."""
    return Path(os.environ.get("METAPLASTIC_WEIGHTS") or BUNDLED)


@pytest.fixture(scope="session")
def lenets(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Only the LeNets for MNIST of the repository: an application with them is quickly made."""
    place = Path("mnist/lenet")
    target = tmp_path_factory.mktemp("lenets")
    shutil.copytree(
        repository / place, target / place, ignore=shutil.ignore_patterns("model.keras")
    )
    return target


@pytest.fixture(scope="session")
def application(repository: Path) -> Flask:
    return create_app(Settings(weights=repository))


parsed = functools.lru_cache(maxsize=4)(json.loads)  # the same large answer after every request


class DocumentedClient(FlaskClient):
    """A client that fails where an answer is not as Swagger describes it."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        response = super().open(*args, **kwargs)
        spec = parsed(super().open("/swagger.json").data)
        check_documented(
            spec, response.request.path, response.request.method, response.status_code, response
        )
        return response


def check_documented(spec: Any, path: str, method: str, status: int, response: Any) -> None:
    operation = spec["paths"].get(path, {}).get(method.lower())
    if not operation:
        return  # an unknown URL or method is in nobody's documentation
    assert str(status) in operation["responses"], f"{method} {path}: {status} is undocumented"
    schema = operation["responses"][str(status)]["schema"]
    if schema == {"type": "file"}:
        assert response.content_type == "image/png"
        return
    if response.content_type == "image/png":  # where the caller may choose
        assert "image/png" in operation["produces"]
        return
    whole = {**schema, "definitions": spec["definitions"]}
    DocumentedValidator(whole).validate(response.json)


def or_null(validator: Any, type_: Any, instance: Any, schema: Any) -> Any:
    """Check a type as Swagger's tools do: x-nullable allows null."""
    if instance is None and schema.get("x-nullable"):
        return ()
    return jsonschema.Draft4Validator.VALIDATORS["type"](validator, type_, instance, schema)


DocumentedValidator = jsonschema.validators.extend(jsonschema.Draft4Validator, {"type": or_null})


@pytest.fixture
def client(application: Flask) -> FlaskClient:
    application.test_client_class = DocumentedClient
    return application.test_client()


@pytest.fixture
def make_client(tmp_path: Path) -> Callable[..., FlaskClient]:
    """A client of a service of its own, over tmp_path unless told otherwise."""

    def make(**settings: Any) -> FlaskClient:
        application = create_app(Settings(**{"weights": tmp_path, **settings}))
        application.test_client_class = DocumentedClient
        return application.test_client()

    return make


@pytest.fixture
def put_model(tmp_path: Path) -> Callable[..., Path]:
    """Copies the real LeNet to tmp_path/<folder>, with changes to its card."""

    def put(folder: str = "mnist/lenet/metaplastic/1", **changes: Any) -> Path:
        target = tmp_path / folder
        target.mkdir(parents=True)
        shutil.copy(made.LENET / "model.onnx", target)
        card = json.loads((made.LENET / "card.json").read_text())
        plain = {"dataset": "mnist", "architecture": "lenet", "rule": "metaplastic", "version": 1}
        (target / "card.json").write_text(json.dumps({**card, **plain, **changes}))
        return target

    return put


@pytest.fixture
def seven() -> bytes:
    """A PNG of a seven."""
    return SEVEN


@pytest.fixture
def blank() -> bytes:
    """A PNG with nothing on it."""
    buffer = io.BytesIO()
    Image.new("L", (64, 64), 255).save(buffer, "PNG")
    return buffer.getvalue()
