"""/api/<dataset>/...: a group of routes, and of entries in Swagger, for each data set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flask_restx

from app.api import classify, compare, explain, history
from app.catalogue.catalogue import Catalogue
from app.settings import Settings

if TYPE_CHECKING:
    from app.feedback.feedback import Feedback


def namespaces(catalogue: Catalogue, settings: Settings, feedback: Feedback | None) -> list[Any]:
    """Return a namespace for each data set, with all routes of its architectures."""
    spaces = []
    for dataset, endpoints in catalogue.datasets.items():
        description = f"Classify images of {dataset}"
        space = flask_restx.Namespace(dataset, description, path=f"/api/{dataset}")
        for endpoint in endpoints:
            classify.add_routes(space, endpoint, settings, feedback)
            explain.add_route(space, endpoint, settings)
            history.add_route(space, endpoint)
            if feedback:
                # Only here: the store of votes need not be loaded where no votes are asked for.
                from app.api import learning

                learning.add_routes(space, endpoint, feedback)
        compare.add_route(space, endpoints, settings)
        spaces.append(space)
    return spaces
