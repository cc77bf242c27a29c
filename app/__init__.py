"""The web service: HTTP and images in, predictions out. Never imports TensorFlow or Keras."""

import os
from collections.abc import Callable
from typing import Any

from flask import Flask

from app.api import register_api
from app.catalogue.catalogue import Catalogue
from app.catalogue.load import load_catalogue
from app.demo.pages import blueprint
from app.settings import Settings
from app.web.access import register_access
from app.web.compression import read_compressed_bodies


class Service(Flask):
    """Flask without its per-call coroutine check; this service has no async views."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


def create_app(settings: Settings | None = None, catalogue: Catalogue | None = None) -> Flask:
    """Return the application for the models that `settings` name.

    `settings` are by default those of the METAPLASTIC_* variables. `catalogue` is given if the
    models have been read already. Raises StartError if a setting or a model cannot be used. Starts
    nothing: a model's session opens with its first request, or by
    `app.extensions["catalogue"].open_first_sessions()`.
    """
    # Not at the head of the file: prometheus-client reads the variable of its folder when it is
    # imported, and app/runtime.py must set that variable before.
    from app.protocols import profiling, register_protocols
    from app.telemetry.hooks import observe_requests

    settings = settings or Settings.from_environment(os.environ)
    catalogue = catalogue or load_catalogue(settings)
    app = Service(__name__)
    # werkzeug raises RequestEntityTooLarge, also for bodies that announce no length.
    app.config["MAX_CONTENT_LENGTH"] = settings.max_request_bytes
    app.extensions["settings"] = settings
    app.extensions["catalogue"] = catalogue
    # Flask calls before_request functions in the order of their registration: every request is
    # observed, then keys and limits are checked, and only then is a compressed body decoded.
    observe_requests(app, catalogue, settings)
    register_access(app, settings)
    read_compressed_bodies(app)
    app.register_blueprint(blueprint(catalogue, settings))
    more = [profiling.namespace(catalogue, settings)]
    register_api(app, catalogue, settings, _feedback(app, settings), more)
    register_protocols(app, catalogue, settings)
    return app


def _feedback(app: Flask, settings: Settings) -> Any:
    """Return what keeps predictions for votes, or None if no votes are asked for.

    Raises StartError.
    """
    if not settings.feedback:
        return None
    # Only here: SQLAlchemy takes memory and time.
    from app.feedback.feedback import Feedback

    feedback = app.extensions["feedback"] = Feedback(settings)
    return feedback
