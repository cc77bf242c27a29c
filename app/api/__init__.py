"""The HTTP surface: builds the documented API from the catalogue."""

from collections.abc import Sequence
from contextvars import Context
from copy import deepcopy
from functools import cached_property
from typing import Any

import flask_restx
from flask import Flask

from app.api import access, datasets, health, predict
from app.api import catalogue as models_api
from app.api.specification import add_real_answers, arrange, example_errors
from app.catalogue.catalogue import Catalogue
from app.settings import Settings
from app.version import VERSION
from app.web import error_handlers, schemas

DESCRIPTION = """\
Image classifiers that learned with brain-inspired rules.

Choose a network below, then **Try it out** and **Execute**: the form already names a sample
image; choose a file to classify your own.

    curl -F file=@image.png {url}/predict

To draw a digit, compare networks and see why they answer as they do, open [the demo](demo).

Every error is JSON: `message` for people, `code` for programs; below `/v2` and `/v1` it is `error`,
as clients of those protocols read it.
"""


class Api(flask_restx.Api):
    """Flask-RESTX's Api, but for its errors, which are left to Flask, and its base path."""

    catalogue: Catalogue
    settings: Settings

    def error_router(self, original_handler: Any, error: Exception) -> Any:
        # app/web/error_handlers.py gives every error of the whole application its one shape.
        return original_handler(error)

    @cached_property
    def specification(self) -> dict[str, Any]:
        """Swagger's document but for what depends on the request: built once, before the fork."""
        built: dict[str, Any] = super().__schema__
        errors = example_errors(self.catalogue, self.settings)
        return {**built, "paths": arrange(built["paths"], self._paths(), errors)}

    @cached_property
    def paths_with_answers(self) -> dict[str, Any]:
        """Its paths, completed when first asked for: answers need sessions, and those a worker."""
        paths: dict[str, Any] = deepcopy(self.specification["paths"])
        # In a context of its own: an example is nobody's request, whoever looks at it first.
        Context().run(add_real_answers, paths, self.catalogue, self.settings)
        return paths

    @property
    def __schema__(self) -> dict[str, Any]:
        # The prefix of a proxy may differ from request to request.
        base = self.base_path.rstrip("/") or "/"
        return {**self.specification, "basePath": base, "paths": self.paths_with_answers}

    def _paths(self) -> list[str]:
        """The routes in the order in which they were added."""
        return [
            url
            for namespace in self.namespaces
            for resource in namespace.resources
            for url in self.ns_urls(namespace, resource.urls)
        ]


def register_api(
    app: Flask, catalogue: Catalogue, settings: Settings, more: Sequence[Any] = ()
) -> None:
    """Add the routes of /api and /health to `app`, and their documentation.

    `more` are the namespaces of other surfaces that Swagger shows too.
    """
    app.config.update(
        RESTX_MASK_SWAGGER=False,
        ERROR_INCLUDE_MESSAGE=False,
        SWAGGER_UI_DOC_EXPANSION="list",
        SWAGGER_UI_REQUEST_DURATION=True,
    )
    error_handlers.register(app, catalogue, settings)
    api = Api(
        title="Metaplastic",
        version=VERSION,
        description=DESCRIPTION.format(url=f"http://localhost:{settings.port}"),
        license="MIT",
        doc="/",
        catch_all_404s=True,
        **access.security(settings),
    )
    api.catalogue, api.settings = catalogue, settings
    schemas.register(api)
    for namespace in (
        predict.namespace(catalogue, settings),
        *datasets.namespaces(catalogue, settings),
        models_api.namespace(catalogue),
        health.namespace(catalogue),
        *more,
    ):
        api.add_namespace(namespace)
    api.init_app(app)
    with app.test_request_context():
        # Built here, once, and shared by all workers.
        access.describe(api.specification, settings)
