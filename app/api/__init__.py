"""The HTTP surface: builds the documented API from the catalogue."""

from typing import Any

import flask_restx
from flask import Flask

from app.api import access, datasets, errors, health, predict, schemas
from app.api import catalogue as models_api
from app.catalogue import Catalogue
from app.settings import Settings

DESCRIPTION = """\
Image classifiers that learned with brain-inspired rules.

Choose a network below, then **Try it out** and **Execute**: the form already names a sample
image; choose a file to classify your own.

    curl -F file=@image.png {url}/predict

Every error is JSON: `message` for people, `code` for programs.
"""


class Api(flask_restx.Api):
    """Flask-RESTX's Api, but for its errors, which are left to Flask, and its base path."""

    def error_router(self, original_handler: Any, error: Exception) -> Any:
        # app/api/errors.py gives every error of the whole application its one shape.
        return original_handler(error)

    @property
    def __schema__(self) -> dict[str, Any]:
        # The rest is built once; the prefix of a proxy may differ from request to request.
        return {**super().__schema__, "basePath": self.base_path.rstrip("/") or "/"}


def register_api(app: Flask, catalogue: Catalogue, settings: Settings) -> None:
    """Add every route of the service to `app`, and its documentation."""
    app.config.update(
        RESTX_MASK_SWAGGER=False,
        ERROR_INCLUDE_MESSAGE=False,
        SWAGGER_UI_DOC_EXPANSION="list",
        SWAGGER_UI_REQUEST_DURATION=True,
    )
    errors.register(app, catalogue, settings)
    api = Api(
        title="Metaplastic",
        version="0.1.0",
        description=DESCRIPTION.format(url=f"http://localhost:{settings.port}"),
        license="MIT",
        doc="/",
        catch_all_404s=True,
        **access.security(settings),
    )
    schemas.register(api)
    for namespace in (
        predict.namespace(catalogue, settings),
        *datasets.namespaces(catalogue, settings),
        models_api.namespace(catalogue),
        health.namespace(catalogue),
    ):
        api.add_namespace(namespace)
    api.init_app(app)
    with app.test_request_context():
        # Built here, once, and shared by all workers.
        access.describe(api.__schema__, settings)
