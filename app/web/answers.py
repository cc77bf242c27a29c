"""The `answer` stage: plain data -> an HTTP answer, without marshalling."""

import json
from typing import Any

import flask_restx
from flask import Response
from flask.views import MethodView

from app.telemetry.record import timed


class Resource(flask_restx.Resource):
    """One URL. It has no state of a request's own, so one object serves them all."""

    init_every_request = False
    # Without Flask-RESTX's look for payloads to validate: nothing here declares any.
    dispatch_request = MethodView.dispatch_request


@timed("answer")
def answer(content: Any, status: int = 200) -> Response:
    """`content` as JSON, its keys in their order."""
    return Response(_encode(content) + "\n", status, content_type="application/json")


_encode = json.JSONEncoder(  # made once
    separators=(",", ":"), allow_nan=False, check_circular=False
).encode
