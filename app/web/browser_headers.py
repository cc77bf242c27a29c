"""Response headers for browsers: security policies, and CORS for the sites that may call."""

from flask import Flask, Request, Response
from werkzeug.datastructures import Headers

from app.headers import DATA_POLICY, SECURITY
from app.settings import Settings
from app.telemetry.current_request import this_request
from app.web.keys import HEADER, is_open

# Swagger UI has inline scripts and styles, so its page needs 'unsafe-inline'.
_PAGE = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
# The headers that scripts of other sites may read, and those that they may send.
_EXPOSED = (
    "X-Request-ID, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, "
    "Inference-Header-Content-Length"
)
_ACCEPTED = f"Content-Type, Authorization, {HEADER}, X-Request-ID, Inference-Header-Content-Length"
_DAY = "86400"  # seconds for which a browser may keep the answer to a preflight request


def add_security_headers(app: Flask, settings: Settings) -> None:
    """Add security headers to every answer of `app`, and CORS headers for the allowed sites."""
    origins = settings.cors_origins

    def add_headers(response: Response) -> Response:
        request, headers = this_request(), response.headers
        present = {name.lower() for name, _ in headers}
        for name, value in SECURITY.items():
            if name.lower() not in present:
                headers.add(name, value)
        if "content-security-policy" not in present:  # /demo sets its own
            page = response.mimetype == "text/html"
            headers.add("Content-Security-Policy", _PAGE if page else DATA_POLICY)
        if request.is_secure:
            headers.setdefault("Strict-Transport-Security", "max-age=31536000")
        if settings.keys and not is_open(request.path, request.method):
            # An answer to a request with a key must not reach other callers through a shared cache.
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
