"""A request's body as JSON: the one place that parses what callers send."""

import json
from typing import Any

from app.errors import RequestError


def read_json(body: bytes, expected: str) -> Any:
    """Return the JSON in `body`.

    Raises RequestError 400 where it is none, with `expected`: a sentence that says what is.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError(400, "bad_json", f"The body is not JSON. {expected}") from None
