"""The `answer` stage: plain data -> an HTTP answer, without marshalling."""

import json
from typing import Any, NamedTuple

import flask_restx
from flask import Response
from flask.views import MethodView

from app.telemetry.record import timed

JSON = "application/json"


class Resource(flask_restx.Resource):
    """One URL. It has no state of a request's own, so one object serves them all."""

    init_every_request = False
    # Without Flask-RESTX's look for payloads to validate: nothing here declares any.
    dispatch_request = MethodView.dispatch_request


class Content(NamedTuple):
    """What is answered, before it is a server's: its body, and the headers that are its own."""

    body: bytes
    content_type: str = JSON
    headers: dict[str, str] = {}  # noqa: RUF012  (read only)
    status: int = 200


def answer(content: Any, status: int = 200) -> Response:
    """Return `content` as JSON, its keys in their order."""
    return respond(content_of(content, status))


def respond(content: Content) -> Response:
    """Return Flask's answer with `content`."""
    return Response(content.body, content.status, headers_of(content))


def headers_of(content: Content) -> dict[str, str]:
    """Return the headers that `content` begins with."""
    return {
        "Content-Type": content.content_type,
        "Content-Length": str(len(content.body)),
        **content.headers,
    }


@timed("answer")
def content_of(content: Any, status: int = 200) -> Content:
    """Return `content` as JSON, its keys in their order."""
    return Content((_encode(content) + "\n").encode("ascii"), status=status)


_encode = json.JSONEncoder(  # made once
    separators=(",", ":"), allow_nan=False, check_circular=False
).encode
