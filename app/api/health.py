"""/health/live and /health/ready: what an orchestrator asks before it restarts or sends traffic."""

from typing import Any

import flask_restx
from flask import Response

from app.catalogue.catalogue import Catalogue
from app.web import schemas
from app.web.answers import Resource, answer
from app.web.readiness import check_ready


class Live(Resource):
    """The process answers."""

    def get(self) -> Response:
        """Whether the process answers."""
        return answer({"status": "live"})


class Ready(Resource):
    """The default model can answer."""

    def __init__(self, api: Any, catalogue: Catalogue) -> None:
        super().__init__(api)
        self.catalogue = catalogue

    def get(self) -> Response:
        """Whether the default model can answer."""
        check_ready(self.catalogue)
        problems = self.catalogue.problems
        served = sum(not model.known_problem for model in self.catalogue)
        return answer({"status": "ready", "models": served, "unavailable": list(problems)})


def namespace(catalogue: Catalogue) -> Any:
    """The routes below /health."""
    space = flask_restx.Namespace("health", "For orchestrators", path="/health")
    space.add_resource(
        Live,
        "/live",
        endpoint="live",
        route_doc={
            "get": {
                "id": "live",
                "responses": schemas.responses({200: ("It does.", schemas.live)}, 500),
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
                "responses": schemas.responses({200: ("It can.", schemas.ready)}, 500, 503),
            }
        },
    )
    return space
