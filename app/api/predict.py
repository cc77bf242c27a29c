"""POST /predict: the default endpoint under a short path."""

from typing import Any

import flask_restx
from flask import Response

from app.api.classify import Classifier, classification_doc
from app.catalogue.catalogue import Catalogue
from app.errors import RequestError
from app.settings import Settings


class Predict(Classifier):
    """A resource that classifies images with the default endpoint."""

    def __init__(self, api: Any, catalogue: Catalogue, settings: Settings) -> None:
        super().__init__(api, catalogue.default, settings)
        self.catalogue = catalogue

    def post(self) -> Response:
        """Classify images, or the sample that the form names."""
        # The endpoint that was asked for is left out: another model's answer would be misleading.
        if self.catalogue.default_left_out:
            message = f"{self.settings.model} cannot be run here. The log says why."
            raise RequestError(503, "model_unavailable", message)
        return super().post()


def namespace(catalogue: Catalogue, settings: Settings) -> Any:
    """Return the namespace with the route /predict for the default endpoint."""
    space = flask_restx.Namespace("predict", "The default model under a short path", path="/")
    space.add_resource(
        Predict,
        "/predict",
        endpoint="predict",
        resource_class_kwargs={"catalogue": catalogue, "settings": settings},
        route_doc={"post": classification_doc(catalogue.default, "predict")},
    )
    return space
