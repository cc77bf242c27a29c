"""POST /predict: the default endpoint under a short path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flask_restx
from flask import Response, request

from app.api.classify import Classifier, classification, classification_doc
from app.catalogue.catalogue import Catalogue
from app.errors import RequestError
from app.settings import Settings
from app.web.answers import Content, respond
from app.web.body import AnyRequest

if TYPE_CHECKING:
    from app.feedback.feedback import Feedback


class Predict(Classifier):
    """A resource that classifies images with the default endpoint."""

    def __init__(
        self, api: Any, catalogue: Catalogue, settings: Settings, feedback: Feedback | None
    ) -> None:
        super().__init__(api, catalogue.default, settings, feedback)
        self.catalogue = catalogue

    def post(self) -> Response:
        """Classify images, or the sample that the form names."""
        return respond(prediction(request, self.catalogue, self.settings, self.feedback))


def prediction(
    request: AnyRequest, catalogue: Catalogue, settings: Settings, feedback: Feedback | None
) -> Content:
    """Return the answer of the default endpoint to `request`. Raises RequestError."""
    # The endpoint that was asked for is left out: another model's answer would be misleading.
    if catalogue.default_left_out:
        message = f"{settings.model} cannot be run here. The log says why."
        raise RequestError(503, "model_unavailable", message)
    return classification(request, catalogue.default, settings, feedback)


def namespace(catalogue: Catalogue, settings: Settings, feedback: Feedback | None) -> Any:
    """Return the namespace with the route /predict for the default endpoint."""
    space = flask_restx.Namespace("predict", "The default model under a short path", path="/")
    space.add_resource(
        Predict,
        "/predict",
        endpoint="predict",
        resource_class_kwargs={
            "catalogue": catalogue,
            "settings": settings,
            "feedback": feedback,
        },
        route_doc={"post": classification_doc(catalogue.default, "predict")},
    )
    return space
