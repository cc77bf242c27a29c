"""Request bodies: their bytes, and their JSON within limits on its size in memory.

A list or an object takes two or three bytes to send and about a hundred bytes of memory, so a limit
on the bytes of a body does not limit memory. Each value except the outermost follows a comma, a
bracket, a brace, or a colon after a name that follows one of these. Counting these characters
before parsing gives an upper limit on the number of values.
"""

import base64
import json
from typing import Any

import flask
from werkzeug.datastructures import EnvironHeaders, ImmutableMultiDict, MultiDict
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.request import Request

from app.errors import RequestError
from app.telemetry.record import timed

# White space in base64: command-line encoders break the text into lines.
_BLANKS = b" \t\r\n\v\f"
_OPENING = (b",", b"[", b"{")
# Python stores every character of a text in four bytes if one of them needs four. What is large in
# a request (images in base64, numbers) is ASCII.
_MOST_BEYOND_ASCII = 4 * 1024 * 1024


class WholeRequest(Request):
    """A complete POST request, with those attributes of flask.Request that are read here.

    Its WSGI environment says nothing of the body, of which the length is `content_length`. What
    most requests ask for is an attribute, since looking up a header takes werkzeug a microsecond.
    """

    max_content_length = None  # the worker has checked the length
    body = b""
    args: MultiDict[str, str] = ImmutableMultiDict()
    content_type: str | None = None  # type: ignore[assignment]  # werkzeug's may be None too
    content_length: int | None = None

    def __init__(
        self, environ: dict[str, str], server: tuple[str, int], path: str, query: bytes
    ) -> None:
        headers, scheme = EnvironHeaders(environ), environ["wsgi.url_scheme"]
        address = environ["REMOTE_ADDR"]
        super().__init__("POST", scheme, server, "", path, query, headers, address)
        self.environ = environ
        self.content_type = environ.get("CONTENT_TYPE")
        if length := environ.get("CONTENT_LENGTH"):
            self.content_length = int(length)
        if query:
            self.args = vars(Request)["args"].fget(self)

    def get_data(self) -> bytes:
        """Return the body."""
        return self.body


AnyRequest = flask.Request | WholeRequest


def url_of(request: AnyRequest) -> str:
    """Return the URL of `request` without its query, or the path if its host is not a name."""
    try:
        return request.base_url
    except UnicodeError:  # a label that begins with xn-- and is no punycode
        return request.path


def whole_body(request: AnyRequest) -> bytes:
    """Return the whole body. Raises RequestEntityTooLarge."""
    data = request.get_data()
    # If a body does not announce its length, werkzeug reads up to the limit and silently drops the
    # rest.
    if request.content_length is None and len(data) >= (request.max_content_length or 0) > 0:
        raise RequestEntityTooLarge
    return data


def read_json(body: bytes, expected: str, most_values: int) -> Any:
    """Return the JSON value in `body`.

    Raises RequestError: 400 `bad_json` if the body is not JSON, with the sentence `expected`; 413
    `too_many_values` if it may hold more than `most_values` (numbers, texts, lists and objects);
    413 `too_many_characters` if it is large and not ASCII.
    """
    # A comma inside a text is counted too. A data: URL has one, and the limits leave room for it.
    values = sum(body.count(sign) for sign in _OPENING)
    if values > most_values:
        raise RequestError(
            413,
            "too_many_values",
            f"The JSON holds up to {values} values; the largest request that is accepted here has "
            f"at most {most_values}. Send less at once.",
            limit=most_values,
        )
    if len(body) > _MOST_BEYOND_ASCII and not body.isascii():
        raise RequestError(
            413,
            "too_many_characters",
            f"JSON with characters beyond ASCII may have at most {_MOST_BEYOND_ASCII} bytes. Write "
            "these characters as \\u escapes, or send less.",
            limit=_MOST_BEYOND_ASCII,
        )
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError(400, "bad_json", f"The body is not JSON. {expected}") from None


def read_base64(text: str) -> bytes:
    """Return the bytes that `text` holds in base64, white space left out.

    Raises ValueError, which says what is wrong, for any other foreign character or wrong padding.
    """
    return base64.b64decode(text.encode("ascii").translate(None, _BLANKS), validate=True)


def values_of_files(images: int) -> int:
    """Return the largest number of JSON values in a request with `images` files in base64."""
    # Two values for each image are enough; the rest leaves room for commas in texts.
    return 64 + 8 * images


read_body = timed("read")(whole_body)


@timed("decode")
def read_object(text: bytes, expected: str, most_values: int) -> dict[str, Any]:
    """Return the JSON object in `text`, which may hold at most `most_values` values.

    Raises RequestError 413 for more values, and 400 with what was `expected` for anything else.
    """
    content = read_json(text, f"Expected {expected}.", most_values)
    if not isinstance(content, dict):
        raise RequestError(400, "bad_json", f"The body is not a JSON object. Expected {expected}.")
    return content
