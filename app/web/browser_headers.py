"""What browsers are told: what pages may do, and which other sites may call."""

from flask import Flask, Request, Response
from werkzeug.datastructures import Headers

from app.headers import DATA_POLICY, SECURITY
from app.settings import Settings
from app.telemetry.record import this_request
from app.web.keys import HEADER, is_open

# Swagger UI's page has its settings in a script of its own, and styles.
_PAGE = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_EXPOSED = (
    "X-Request-ID, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, "
    "Inference-Header-Content-Length"
)
_ACCEPTED = f"Content-Type, Authorization, {HEADER}, X-Request-ID, Inference-Header-Content-Length"
_DAY = "86400"  # seconds


def instruct_browsers(app: Flask, settings: Settings) -> None:
    """Add security headers to every answer of `app`, and CORS headers for the sites in settings."""
    origins = settings.cors_origins

    def add_headers(response: Response) -> Response:
        request, headers = this_request(), response.headers
        present = {name.lower() for name, _ in headers}
        for name, value in SECURITY.items():
            if name.lower() not in present:
                headers.add(name, value)
        if "content-security-policy" not in present:  # the demonstration has one of its own
            page = response.mimetype == "text/html"
            headers.add("Content-Security-Policy", _PAGE if page else DATA_POLICY)
        if request.is_secure:
            headers.setdefault("Strict-Transport-Security", "max-age=31536000")
        if settings.keys and not is_open(request.path, request.method):
            # What a key was shown for is not for the next caller of a cache on the way.
            response.cache_control.public = False
            response.cache_control.private = True
        if origins:
            _allow(request, headers, origins)
        return response

    app.after_request(add_headers)


def _allow(request: Request, headers: Headers, origins: tuple[str, ...]) -> None:
    origin = request.headers.get("Origin", "")
    headers.add("Vary", "Origin")
    if not origin or not ("*" in origins or origin in origins):
        return
    headers["Access-Control-Allow-Origin"] = "*" if "*" in origins else origin
    headers["Access-Control-Expose-Headers"] = _EXPOSED
    if request.method == "OPTIONS":
        headers["Access-Control-Allow-Methods"] = headers.get("Allow", "GET, POST")
        headers["Access-Control-Allow-Headers"] = _ACCEPTED
        headers["Access-Control-Max-Age"] = _DAY
