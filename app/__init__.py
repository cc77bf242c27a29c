"""The web service: HTTP and images in, predictions out. Never imports TensorFlow or Keras."""

import os
from collections.abc import Callable

from flask import Flask

from app.access import register_access
from app.api import register_api
from app.catalogue import Model, load_catalogue
from app.compression import read_compressed_bodies
from app.demo import blueprint
from app.draining import drain_unread_body
from app.settings import Settings
from app.uploads import Request


def create_app(
    settings: Settings | None = None, skip: Callable[[Model], bool] = lambda _: False
) -> Flask:
    """The service for the models that `settings` (by default METAPLASTIC_* variables) name.

    Those to `skip` are left out.

    Raises StartError where a setting or a model cannot be used. Starts nothing: a model's session
    opens with its first request, or with `app.extensions["catalogue"].open_first_sessions()`.
    """
    # Here and not at the head: prometheus-client looks, when it is imported, where to count, and
    # the protocols make applications themselves.
    from app.observing import observe_requests
    from app.protocols import register_protocols

    settings = settings or Settings.from_environment(os.environ)
    catalogue = load_catalogue(settings, skip)
    app = Flask(__name__)
    app.request_class = Request
    app.config["MAX_CONTENT_LENGTH"] = settings.max_request_bytes
    app.extensions["settings"] = settings
    app.extensions["catalogue"] = catalogue
    observe_requests(app, catalogue, settings)
    app.after_request(drain_unread_body)
    register_access(app, settings)
    read_compressed_bodies(app)
    app.register_blueprint(blueprint(catalogue, settings))
    register_api(app, catalogue, settings)
    register_protocols(app, catalogue, settings)
    return app
