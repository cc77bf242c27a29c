"""A request's body as bytes and as JSON."""

from typing import Any

from app import bounded_json
from app.errors import RequestError
from app.records import timed
from app.uploads import whole_body

read_body = timed("read")(whole_body)


@timed("decode")
def read_object(text: bytes, expected: str, most_values: int) -> dict[str, Any]:
    """The JSON object in `text`, which holds at most `most_values`: see app/bounded_json.py.

    Raises RequestError 413 for more, and 400 that says what was `expected`.
    """
    try:
        content = bounded_json.loads(text, most_values)
    except (ValueError, RecursionError):
        raise RequestError(400, "bad_json", f"The body is not JSON. Expected {expected}.") from None
    if not isinstance(content, dict):
        raise RequestError(400, "bad_json", f"The body is no JSON object. Expected {expected}.")
    return content
