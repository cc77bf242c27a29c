"""/api/<dataset>/<architecture>/history: loss and accuracy of each epoch."""

import csv
import math
from pathlib import Path
from typing import Any

from flask import Response, request

from app.catalogue.catalogue import Endpoint
from app.errors import RequestError
from app.web import schemas
from app.web.answers import Resource, answer
from app.web.options import CHOICE, describe_choice, read_model, refuse_unknown

HISTORY = "history.csv"


class History(Resource):
    """The learning curves of a model as numbers."""

    def __init__(self, api: Any, endpoint: Endpoint) -> None:
        super().__init__(api)
        self.endpoint = endpoint

    def get(self) -> Response:
        """Return loss and accuracy of each epoch."""
        refuse_unknown(request.args, CHOICE)
        model = read_model(request.args, self.endpoint)
        path = model.folder / HISTORY
        if not path.is_file():
            message = f"{model.card.name} version {model.card.version} has no {HISTORY}."
            raise RequestError(404, "no_history", message)
        return answer({"model": model.card.name, "epochs": read_history(path)})


def read_history(path: Path) -> list[dict[str, float]]:
    """Return the rows of the CSV file `path`. NaN and infinity (diverged training) are left out."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            {name: float(text) for name, text in row.items() if text}
            for row in csv.DictReader(file)
        ]
    return [
        {
            # JSON has no NaN and no infinity. Epochs become whole numbers.
            name: int(value) if value.is_integer() else value
            for name, value in row.items()
            if math.isfinite(value)
        }
        for row in rows
    ]


def add_route(namespace: Any, endpoint: Endpoint) -> None:
    """Add the documented history of one architecture to the namespace of its data set."""
    answered = ("The epochs of the training.", schemas.history)
    namespace.add_resource(
        History,
        f"/{endpoint.architecture}/history",
        endpoint=f"{endpoint.name}/history",
        resource_class_kwargs={"endpoint": endpoint},
        route_doc={
            "get": {
                "id": f"history_{endpoint.identifier}",
                "params": describe_choice(endpoint),
                "responses": schemas.responses({200: answered}, 400, 404, 500),
            }
        },
    )
