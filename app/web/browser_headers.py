"""Response headers for browsers: security policies, and CORS for the sites that may call."""

from flask import Flask, Response, request
from werkzeug.datastructures import Headers, ResponseCacheControl
from werkzeug.http import parse_cache_control_header
from werkzeug.sansio.request import Request

from app.headers import DATA_POLICY, SECURITY
from app.settings import Settings
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

    def add_headers(response: Response) -> Response:
        add_browser_headers(response.headers, request, settings)
        return response

    app.after_request(add_headers)


def add_browser_headers(
    headers: Headers | dict[str, str], request: Request, settings: Settings
) -> None:
    """Add security headers to the `headers` of an answer to `request`, and CORS headers."""
    for name, value in SECURITY.items():
        headers.setdefault(name, value)
    if "Content-Security-Policy" not in headers:  # /demo sets its own
        page = headers.get("Content-Type", "").startswith("text/html")
        headers["Content-Security-Policy"] = _PAGE if page else DATA_POLICY
    if request.is_secure:
        headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    if settings.keys and not is_open(request.path, request.method):
        # An answer to a request with a key must not reach other callers through a shared cache.
        control = parse_cache_control_header(headers.get("Cache-Control"), cls=ResponseCacheControl)
        control.public, control.private = False, True
        headers["Cache-Control"] = control.to_header()
    if settings.cors_origins:
        _allow(headers, request, settings.cors_origins)


def _allow(headers: Headers | dict[str, str], request: Request, origins: tuple[str, ...]) -> None:
    origin = request.headers.get("Origin", "")
    headers["Vary"] = ", ".join(filter(None, (headers.get("Vary"), "Origin")))
    if not origin or not ("*" in origins or origin in origins):
        return
    headers["Access-Control-Allow-Origin"] = "*" if "*" in origins else origin
    headers["Access-Control-Expose-Headers"] = _EXPOSED
    if request.method == "OPTIONS":
        headers["Access-Control-Allow-Methods"] = headers.get("Allow", "GET, POST")
        headers["Access-Control-Allow-Headers"] = _ACCEPTED
        headers["Access-Control-Max-Age"] = _DAY
