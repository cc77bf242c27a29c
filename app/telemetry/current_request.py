"""The current request as an object."""

from flask import Request, request


def this_request() -> Request:
    """Return the current request. Flask's `request` looks it up at each access, which takes time."""
    return request._get_current_object()  # type: ignore[attr-defined, no-any-return]
