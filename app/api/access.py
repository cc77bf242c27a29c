"""What Swagger says of keys and rate limits, where there are any."""

from typing import Any

from app.api.specification import ERRORS, in_shape
from app.errors import is_standard
from app.settings import Settings
from app.web import schemas
from app.web.keys import HEADER, is_open

_TEXTS = {
    401: "A key is needed, and none that is known was shown.",
    503: "The file of keys cannot be read now; try again.",
    429: "Too many requests; `Retry-After` says when to try again.",
}


def security(settings: Settings) -> dict[str, Any]:
    """Arguments of flask_restx.Api for Swagger UI's Authorize button, where keys are asked for."""
    if not settings.keys:
        return {}
    key = {"type": "apiKey", "in": "header", "name": HEADER}
    return {"authorizations": {"key": key}, "security": "key"}


def describe(specification: dict[str, Any], settings: Settings) -> None:
    """Add to each operation the answers that keys and rate limits can give."""
    statuses = [401, 503] * bool(settings.keys) + [429] * bool(settings.rate_limit)
    for path, operations in specification["paths"].items():
        if not statuses or is_open(path, "GET"):
            continue
        shape = schemas.protocol_error if is_standard(path) else schemas.error
        for operation in operations.values():
            if isinstance(operation, dict) and "responses" in operation:
                for status in statuses:
                    described = {
                        "description": _TEXTS[status],
                        "schema": {"$ref": f"#/definitions/{shape.name}"},
                        "examples": {"application/json": in_shape(path, ERRORS[str(status)])},
                    }
                    operation["responses"].setdefault(str(status), described)
