"""The standard protocols: Open Inference Protocol (V2) and TensorFlow Serving's REST API."""

from flask import Flask

from app.catalogue.catalogue import Catalogue
from app.protocols import repository, tfserving, v2
from app.settings import Settings


def register_protocols(app: Flask, catalogue: Catalogue, settings: Settings) -> None:
    """Add the routes below /v1 and /v2 to `app`."""
    app.register_blueprint(v2.routes(catalogue, settings))
    app.register_blueprint(repository.routes(catalogue, settings))
    app.register_blueprint(tfserving.routes(catalogue, settings))
