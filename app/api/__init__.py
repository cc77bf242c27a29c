"""The documented API of the service: /api, /predict, /health and Swagger UI."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import Context
from copy import deepcopy
from functools import cached_property
from typing import TYPE_CHECKING, Any

import flask_restx
from flask import Flask

from app.api import access, datasets, health, predict
from app.api import catalogue as models_api
from app.api.specification import add_real_answers, arrange, example_errors
from app.catalogue.catalogue import Catalogue
from app.settings import Settings
from app.version import VERSION
from app.web import error_handlers, schemas

if TYPE_CHECKING:
    from app.feedback.feedback import Feedback

DESCRIPTION = """\
Image classifiers trained with brain-inspired learning rules.

Choose a network below, then **Try it out** and **Execute**. The form already names a sample image;
choose a file to classify your own image.

    curl -F file=@image.png {url}/predict

Open [the demo](demo) to draw a digit, to compare networks and to see which parts of an image
support an answer.

Every error is JSON with a `message` for people and a `code` for programs. Below `/v2` and `/v1`, it
has the key `error` instead, which clients of those protocols read.
"""


class Api(flask_restx.Api):
    """Flask-RESTX's Api with a base path for each request, and with errors handled by Flask."""

    catalogue: Catalogue
    settings: Settings

    def error_router(self, original_handler: Any, error: Exception) -> Any:
        # app/web/error_handlers.py handles the errors of the whole application.
        return original_handler(error)

    @cached_property
    def specification(self) -> dict[str, Any]:
        """Return the parts of Swagger's document that do not depend on the request.

        They are built once, before the workers are forked.
        """
        built: dict[str, Any] = super().__schema__
        errors = example_errors(self.catalogue, self.settings)
        # A data set may be called as one of the other groups, such as "models".
        tags = list({tag["name"]: tag for tag in reversed(built["tags"])}.values())[::-1]
        return {**built, "tags": tags, "paths": arrange(built["paths"], self._paths(), errors)}

    @cached_property
    def paths_with_answers(self) -> dict[str, Any]:
        """Return the document's paths with the answers to the samples.

        They are completed at the first request, because answers need sessions, which each worker
        opens for itself.
        """
        paths: dict[str, Any] = deepcopy(self.specification["paths"])
        # In an empty context, so that the examples do not count as inferences of the current
        # request.
        Context().run(add_real_answers, paths, self.catalogue, self.settings)
        return paths

    @property
    def __schema__(self) -> dict[str, Any]:
        # Each request may come through a proxy with another prefix.
        base = self.base_path.rstrip("/") or "/"
        return {**self.specification, "basePath": base, "paths": self.paths_with_answers}

    def _paths(self) -> list[str]:
        """Return the routes in the order in which they were added."""
        return [
            url
            for namespace in self.namespaces
            for resource in namespace.resources
            for url in self.ns_urls(namespace, resource.urls)
        ]


def register_api(
    app: Flask,
    catalogue: Catalogue,
    settings: Settings,
    feedback: Feedback | None = None,
    more: Sequence[Any] = (),
) -> None:
    """Add the routes of /api, /predict and /health to `app`, and Swagger's documentation.

    With `feedback`, there are routes for votes too. `more` are namespaces of other protocols that
    Swagger shows as well.
    """
    app.config.update(
        RESTX_MASK_SWAGGER=False,  # no parameter X-Fields in every operation
        ERROR_INCLUDE_MESSAGE=False,  # no text of exceptions in answers
        SWAGGER_UI_DOC_EXPANSION="list",  # groups are open, operations are closed
        SWAGGER_UI_REQUEST_DURATION=True,
    )
    error_handlers.register(app, catalogue, settings)
    api = Api(
        title="Metaplastic",
        version=VERSION,
        description=DESCRIPTION.format(url=f"http://localhost:{settings.port}"),
        license="MIT",
        doc="/",
        catch_all_404s=True,  # unknown URLs get JSON as well
        **access.security(settings),
    )
    api.catalogue, api.settings = catalogue, settings
    schemas.register(api)
    if feedback:
        # Only here: the store of votes need not be loaded where no votes are asked for.
        from app.web import vote_schemas

        vote_schemas.register(api)
    # Swagger shows the groups in this order.
    for namespace in (
        predict.namespace(catalogue, settings, feedback),
        *datasets.namespaces(catalogue, settings, feedback),
        *_votes(catalogue, feedback),
        models_api.namespace(catalogue),
        health.namespace(catalogue),
        *more,
    ):
        api.add_namespace(namespace)
    api.init_app(app)
    with app.test_request_context():
        # Built before the workers are forked, which share its memory.
        access.describe(api.specification, settings)


def _votes(catalogue: Catalogue, feedback: Feedback | None) -> list[Any]:
    if feedback is None:
        return []
    # Only here: the store of votes need not be loaded where no votes are asked for.
    from app.api import feedback as feedback_api

    return [feedback_api.namespace(catalogue, feedback)]
