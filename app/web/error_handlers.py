"""Handlers that give every error of the application one JSON shape: {"message", "code", ...}.

The standard protocols (/v1, /v2) are the exception. Their clients read {"error": message}.
"""

import logging
from http import HTTPStatus

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge
from werkzeug.routing import RequestRedirect
from werkzeug.sansio.request import Request

from app.catalogue.catalogue import Catalogue
from app.errors import RETRY_AFTER, RequestError, body_for, is_standard, too_large
from app.settings import Settings
from app.telemetry.record import note_error
from app.web.answers import Content, content_of, respond
from app.web.body import url_of


def register(app: Flask, catalogue: Catalogue, settings: Settings) -> None:
    """Register handlers for all errors of `app`, unknown URLs included."""

    def refused_body(_: RequestEntityTooLarge) -> Response:
        return refuse(too_large(settings.max_request_mib))

    def not_found(_: NotFound) -> Response:
        known = [endpoint.path for endpoint in catalogue.endpoints.values()]
        if request.path.startswith("/api/"):
            message = f"There is no {request.path[:100]!r}; there are: {', '.join(known)}."
            return refuse(RequestError(404, "unknown_endpoint", message, endpoints=known))
        message = f"There is no {request.path[:100]!r}. The documentation at / lists all routes."
        return refuse(RequestError(404, "not_found", message))

    # Flask calls the handler of the most specific class.
    app.register_error_handler(RequestError, refuse)
    app.register_error_handler(RequestEntityTooLarge, refused_body)
    app.register_error_handler(NotFound, not_found)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unforeseen)


def refuse(error: RequestError) -> Response:
    """Return the response for `error` to the current request."""
    return respond(refusal(error, request.path))


def refusal(error: RequestError, path: str) -> Content:
    """Return the answer for `error`, in the shape of the protocol of `path`."""
    note_error(error.code)
    headers = {}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status in (429, 503):
        headers["Retry-After"] = RETRY_AFTER
    return content_of(body_for(path, error), error.status)._replace(headers=headers)


def _http_error(error: HTTPException) -> Response | HTTPException:
    """Return the response for an error that Flask or werkzeug raised."""
    if isinstance(error, RequestRedirect) or error.code is None:
        return error
    status = HTTPStatus(error.code)
    # Phrases such as "Method Not Allowed" become codes such as "method_not_allowed".
    message = error.description or status.phrase
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        allowed = ", ".join(sorted(error.valid_methods))
        message = f"{request.path[:100]} does not take {request.method[:20]}; it takes: {allowed}."
        if "POST" in error.valid_methods:
            message += f" {_how_to_post()}"
    code = status.phrase.lower().replace(" ", "_").replace("-", "_")
    response = refuse(RequestError(status, code, message))
    # Headers such as Allow belong to the error; the body is another one.
    for name, value in error.get_headers():
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def _how_to_post() -> str:
    """Return an example call, for callers of `curl -T`, which sends PUT."""
    what = "-d @request.json" if is_standard(request.path) else "-F file=@image.png"
    return f"For example: curl {what} {url_of(request)}"


def _unforeseen(error: Exception) -> Response:
    return refuse(unforeseen(error, request, current_app.logger))


def unforeseen(error: Exception, request: Request, log: logging.Logger) -> RequestError:
    """Return the error for an unforeseen exception. The details go to the log only."""
    # The memory of this request is freed, so the next request may succeed.
    if isinstance(error, MemoryError):
        log.error("%s %s: no memory: %s", request.method, request.path, error)
        message = (
            "There is not enough memory for this request now. Send fewer images, or try again."
        )
        return RequestError(503, "out_of_memory", message)
    log.error("%s %s", request.method, request.path, exc_info=error)
    return internal_error()


def internal_error() -> RequestError:
    """Return what a caller is told about a fault of the service."""
    message = "The service failed. The fault is in the service and has been logged."
    return RequestError(500, "internal_error", message)
