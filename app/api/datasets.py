"""/api/<dataset>/...: a group of routes, and of entries in Swagger, for each data set."""

from typing import Any

import flask_restx

from app.api import classify, compare, explain, history
from app.catalogue.catalogue import Catalogue
from app.settings import Settings


def namespaces(catalogue: Catalogue, settings: Settings) -> list[Any]:
    """Return a namespace for each data set, with all routes of its architectures."""
    spaces = []
    for dataset, endpoints in catalogue.datasets.items():
        description = f"Classify images of {dataset}"
        space = flask_restx.Namespace(dataset, description, path=f"/api/{dataset}")
        for endpoint in endpoints:
            classify.add_routes(space, endpoint, settings)
            explain.add_route(space, endpoint, settings)
            history.add_route(space, endpoint)
        compare.add_route(space, endpoints, settings)
        spaces.append(space)
    return spaces
