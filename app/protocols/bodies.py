"""A request's body as bytes and as JSON."""

import json
from typing import Any

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge

from app.errors import RequestError
from app.records import timed


@timed("read")
def read_body(request: Request) -> bytes:
    """The whole body. Raises RequestEntityTooLarge."""
    data = request.get_data(cache=False)
    # Of a body that does not announce its length werkzeug would silently leave out the rest.
    if request.content_length is None and len(data) >= (request.max_content_length or 0) > 0:
        raise RequestEntityTooLarge
    return data


@timed("decode")
def read_object(text: bytes, expected: str) -> dict[str, Any]:
    """The JSON object in `text`. Raises RequestError 400 that says what was `expected`."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise RequestError(400, "bad_json", f"The body is not JSON. Expected {expected}.") from None
    if not isinstance(content, dict):
        raise RequestError(400, "bad_json", f"The body is no JSON object. Expected {expected}.")
    return content
