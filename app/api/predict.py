"""POST /predict: the shorthand for a service that is asked one thing only."""

from typing import Any

import flask_restx

from app.api.classify import Classifier, classification_doc
from app.catalogue import Catalogue
from app.settings import Settings


def namespace(catalogue: Catalogue, settings: Settings) -> Any:
    """The route /predict for the catalogue's default endpoint."""
    space = flask_restx.Namespace("predict", "The default model, in one word", path="/")
    space.add_resource(
        Classifier,
        "/predict",
        endpoint="predict",
        resource_class_kwargs={"endpoint": catalogue.default, "settings": settings},
        route_doc={"post": classification_doc(catalogue.default, "predict")},
    )
    return space
