"""The web service: HTTP and images in, predictions out. Never imports TensorFlow or Keras."""

import os

from flask import Flask

from app.api import register_api
from app.catalogue import load_catalogue
from app.settings import Settings
from app.uploads import Request


def create_app(settings: Settings | None = None) -> Flask:
    """The service for the models that `settings` (by default METAPLASTIC_* variables) name.

    Raises StartError where a setting or a model cannot be used. Starts nothing: a model's session
    opens with its first request, or with `app.extensions["catalogue"].open_first_sessions()`.
    """
    settings = settings or Settings.from_environment(os.environ)
    catalogue = load_catalogue(settings)
    app = Flask(__name__)
    app.request_class = Request
    app.config["MAX_CONTENT_LENGTH"] = settings.max_request_bytes
    app.extensions["settings"] = settings
    app.extensions["catalogue"] = catalogue
    register_api(app, catalogue, settings)
    return app
