"""A request's body as bytes and as JSON."""

from typing import Any

from app.errors import RequestError
from app.json_bodies import read_json
from app.records import timed
from app.uploads import whole_body

read_body = timed("read")(whole_body)


@timed("decode")
def read_object(text: bytes, expected: str, most_values: int) -> dict[str, Any]:
    """The JSON object in `text`, which holds at most `most_values`: see app/json_bodies.py.

    Raises RequestError 413 for more, and 400 that says what was `expected`.
    """
    content = read_json(text, f"Expected {expected}.", most_values)
    if not isinstance(content, dict):
        raise RequestError(400, "bad_json", f"The body is no JSON object. Expected {expected}.")
    return content
