"""A request's body: its bytes, and its JSON within bounds.

A list or an object takes two or three bytes to send and a hundred to hold, so that the limit on a
body's bytes is none on memory. Each value but the outermost stands behind a comma, a bracket, a
brace, or a colon after a name that does; these are counted before anything is made of them.
"""

import json
from typing import Any

import flask
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.request import Request

from app.errors import RequestError
from app.telemetry.record import timed

_OPENING = (b",", b"[", b"{")
# One character beyond ASCII makes Python hold each of a text's in four bytes. What is large (images
# in base64, numbers) is ASCII.
_MOST_BEYOND_ASCII = 4 * 1024 * 1024


class WholeRequest(Request):
    """A request in plain values, of which all has come: read as flask.Request is."""

    max_content_length = None  # whoever received the body has seen to that
    body = b""

    def get_data(self) -> bytes:
        """Return the body."""
        return self.body


AnyRequest = flask.Request | WholeRequest


def whole_body(request: AnyRequest) -> bytes:
    """The whole body. Raises RequestEntityTooLarge."""
    data = request.get_data()
    # Of a body that does not announce its length werkzeug would silently leave out the rest.
    if request.content_length is None and len(data) >= (request.max_content_length or 0) > 0:
        raise RequestEntityTooLarge
    return data


def read_json(body: bytes, expected: str, most_values: int) -> Any:
    """Return the JSON in `body`.

    Raises RequestError 400 where it is none, with `expected`: a sentence that says what is; 413
    `too_many_values` where it may hold more than `most_values` (numbers, texts, lists, objects),
    and `too_many_characters` where it is large and not ASCII.
    """
    # Of commas in texts a data: URL has one, which the bounds leave room for.
    values = sum(body.count(sign) for sign in _OPENING)
    if values > most_values:
        raise RequestError(
            413,
            "too_many_values",
            f"The JSON holds up to {values} values; a request of the most images that are "
            f"accepted has at most {most_values}. Send fewer at once.",
            limit=most_values,
        )
    if len(body) > _MOST_BEYOND_ASCII and not body.isascii():
        raise RequestError(
            413,
            "too_many_characters",
            f"JSON with characters beyond ASCII may have at most {_MOST_BEYOND_ASCII} bytes. Write "
            "them as \\u escapes, or send less.",
            limit=_MOST_BEYOND_ASCII,
        )
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError(400, "bad_json", f"The body is not JSON. {expected}") from None


def values_of_files(images: int) -> int:
    """The most values of a request with so many image files in base64."""
    return 64 + 8 * images


read_body = timed("read")(whole_body)


@timed("decode")
def read_object(text: bytes, expected: str, most_values: int) -> dict[str, Any]:
    """The JSON object in `text`, which holds at most `most_values`: see `read_json`.

    Raises RequestError 413 for more, and 400 that says what was `expected`.
    """
    content = read_json(text, f"Expected {expected}.", most_values)
    if not isinstance(content, dict):
        raise RequestError(400, "bad_json", f"The body is no JSON object. Expected {expected}.")
    return content
