"""The `answer` stage: from plain data to a JSON response, without marshalling."""

import json
from typing import Any, NamedTuple

import flask_restx
from flask import Response
from flask.views import MethodView

from app.telemetry.record import timed

JSON = "application/json"


class Resource(flask_restx.Resource):
    """A resource of Flask-RESTX. It keeps no state of a request, so one object serves all."""

    init_every_request = False
    # Flask-RESTX's own method also validates payloads, which no resource here declares.
    dispatch_request = MethodView.dispatch_request


class Content(NamedTuple):
    """An answer that does not depend on the server: its body, and the headers that describe it."""

    body: bytes
    content_type: str = JSON
    headers: dict[str, str] = {}  # noqa: RUF012  (read only)
    status: int = 200


def answer(content: Any, status: int = 200) -> Response:
    """Return `content` as a JSON response. The order of the keys is kept."""
    return respond(content_of(content, status))


def respond(content: Content) -> Response:
    """Return Flask's response with `content`."""
    return Response(content.body, content.status, headers_of(content))


def headers_of(content: Content) -> dict[str, str]:
    """Return the headers that describe `content`."""
    return {
        "Content-Type": content.content_type,
        "Content-Length": str(len(content.body)),
        **content.headers,
    }


@timed("answer")
def content_of(content: Any, status: int = 200) -> Content:
    """Return `content` as JSON. The order of the keys is kept."""
    return Content((_encode(content) + "\n").encode("ascii"), status=status)


# Made once: making an encoder takes longer than encoding a small answer.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode
