"""The current request as an object."""

from flask import Request, request


def this_request() -> Request:
    """Return the current request itself. Flask's `request` looks it up with each attribute."""
    return request._get_current_object()  # type: ignore[attr-defined, no-any-return]
