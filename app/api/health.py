"""/health/live and /health/ready, which orchestrators ask before they restart or send traffic."""

from typing import Any

import flask_restx
from flask import Response

from app.catalogue.catalogue import Catalogue
from app.web import schemas
from app.web.answers import Resource, answer
from app.web.readiness import check_ready


class Live(Resource):
    """The liveness of the process."""

    def get(self) -> Response:
        """Answer 200 while the process can answer."""
        return answer({"status": "live"})


class Ready(Resource):
    """The readiness of the default model."""

    def __init__(self, api: Any, catalogue: Catalogue) -> None:
        super().__init__(api)
        self.catalogue = catalogue

    def get(self) -> Response:
        """Answer 200 if the default model can answer, and 503 otherwise."""
        check_ready(self.catalogue)
        problems = self.catalogue.problems
        served = sum(not model.known_problem for model in self.catalogue)
        return answer({"status": "ready", "models": served, "unavailable": list(problems)})


def namespace(catalogue: Catalogue) -> Any:
    """Return the namespace with the routes below /health."""
    space = flask_restx.Namespace("health", "For orchestrators", path="/health")
    space.add_resource(
        Live,
        "/live",
        endpoint="live",
        route_doc={
            "get": {
                "id": "live",
                "responses": schemas.responses({200: ("The process answers.", schemas.live)}, 500),
            }
        },
    )
    space.add_resource(
        Ready,
        "/ready",
        endpoint="ready",
        resource_class_kwargs={"catalogue": catalogue},
        route_doc={
            "get": {
                "id": "ready",
                "responses": schemas.responses(
                    {200: ("The default model can answer.", schemas.ready)}, 500, 503
                ),
            }
        },
    )
    return space
