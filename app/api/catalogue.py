"""GET /api/models: all models that are served."""

from typing import Any

import flask_restx
from flask import Response

from app.catalogue.catalogue import Catalogue, Endpoint, Model
from app.web import schemas
from app.web.answers import Resource, answer


class Models(Resource):
    """All models that are served."""

    def __init__(self, api: Any, catalogue: Catalogue) -> None:
        super().__init__(api)
        self.catalogue = catalogue

    def get(self) -> Response:
        """List all models with their endpoints and scores."""
        return answer(
            {
                "models": [
                    _row(endpoint, model)
                    for endpoint in self.catalogue.endpoints.values()
                    for model in endpoint
                    if not model.known_problem
                ],
                "unavailable": list(self.catalogue.problems),
            }
        )


def _row(endpoint: Endpoint, model: Model) -> dict[str, Any]:
    card = model.card
    row = {
        "model": card.name,
        "endpoint": endpoint.path,
        "dataset": card.dataset,
        "architecture": card.architecture,
        "rule": card.rule,
        "version": card.version,
        "default": model is endpoint.find(),
        "labels": list(card.labels),
        "input": {
            "height": card.input.height,
            "width": card.input.width,
            "channels": card.input.channels,
        },
        "parameters": card.parameters,
        "multiply_adds": card.multiply_adds,
    }
    if card.test:
        row["accuracy"] = card.test.accuracy
        row["accuracy_interval"] = list(card.test.interval)
    return row


def namespace(catalogue: Catalogue) -> Any:
    """Return the namespace with the route /api/models."""
    space = flask_restx.Namespace("models", "All models that are served", path="/api")
    space.add_resource(
        Models,
        "/models",
        endpoint="models",
        resource_class_kwargs={"catalogue": catalogue},
        route_doc={
            "get": {
                "id": "list_models",
                "responses": schemas.responses({200: ("All models.", schemas.model_list)}, 500),
            }
        },
    )
    return space
