"""The `answer` stage: from plain data to a JSON response, without marshalling."""

import json
from typing import Any

import flask_restx
from flask import Response
from flask.views import MethodView

from app.telemetry.record import timed


class Resource(flask_restx.Resource):
    """A resource of Flask-RESTX. It keeps no state of a request, so one object serves all."""

    init_every_request = False
    # Flask-RESTX's own method also validates payloads, which no resource here declares.
    dispatch_request = MethodView.dispatch_request


@timed("answer")
def answer(content: Any, status: int = 200) -> Response:
    """Return `content` as a JSON response. The order of the keys is kept."""
    return Response(_encode(content) + "\n", status, content_type="application/json")


# Made once: making an encoder takes longer than encoding a small answer.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode
