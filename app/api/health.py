"""/health/live and /health/ready: what an orchestrator asks before it restarts or sends traffic."""

from typing import Any

import flask_restx
from flask import Response, current_app

from app.api import schemas
from app.api.answers import Resource, answer
from app.catalogue import Catalogue, ShelfError
from app.errors import RequestError


class Live(Resource):
    """The process answers."""

    def get(self) -> Response:
        """Whether the process answers."""
        return answer({"status": "live"})


class Ready(Resource):
    """The service can answer."""

    def __init__(self, api: Any, catalogue: Catalogue) -> None:
        super().__init__(api)
        self.catalogue = catalogue

    def get(self) -> Response:
        """Whether the service can answer."""
        check_ready(self.catalogue)
        problems = self.catalogue.problems
        served = sum(not model.known_problem for model in self.catalogue)
        return answer({"status": "ready", "models": served, "unavailable": list(problems)})


def check_ready(catalogue: Catalogue) -> None:
    """Open the first sessions. Raises RequestError 503 where no model can be run."""
    try:
        catalogue.open_first_sessions()
    except ShelfError as error:
        current_app.logger.error("not ready: %s", error)
        raise RequestError(503, "not_ready", "A model cannot be run; the log says why.") from error


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
