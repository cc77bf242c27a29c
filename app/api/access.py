"""Swagger's description of keys and rate limits, for services that have them."""

from typing import Any

from app.api.specification import in_shape
from app.errors import RequestError, is_standard
from app.settings import Settings
from app.web import schemas
from app.web.keys import HEADER, is_open, keys_unreadable, missing_key

_TEXTS = {
    401: "The key is missing or unknown.",
    503: "The file of keys cannot be read now. Try again.",
    429: "Too many requests. `Retry-After` says when to try again.",
}


def security(settings: Settings) -> dict[str, Any]:
    """Return arguments of flask_restx.Api for the button Authorize, or none without keys."""
    if not settings.keys:
        return {}
    key = {"type": "apiKey", "in": "header", "name": HEADER}
    return {"authorizations": {"key": key}, "security": "key"}


def describe(specification: dict[str, Any], settings: Settings) -> None:
    """Add the answers of keys and rate limits to each operation of `specification`."""
    errors = _errors(settings)
    for path, operations in specification["paths"].items():
        if not errors or is_open(path, "GET"):
            continue
        shape = schemas.protocol_error if is_standard(path) else schemas.error
        for operation in operations.values():
            if isinstance(operation, dict) and "responses" in operation:
                for error in errors:
                    described = {
                        "description": _TEXTS[error.status],
                        "schema": {"$ref": f"#/definitions/{shape.name}"},
                        "examples": {"application/json": in_shape(path, error.body())},
                    }
                    operation["responses"].setdefault(str(error.status), described)


def _errors(settings: Settings) -> list[RequestError]:
    """Return the errors of keys and rate limits, each made by the function that raises it."""
    errors = [missing_key(), keys_unreadable()] if settings.keys else []
    if settings.rate_limit:
        # Only here: Flask-Limiter need not be loaded where no limit is set.
        from app.web.rate_limits import first_limit, rate_limited

        errors.append(rate_limited(first_limit(settings.rate_limit)))
    return errors
