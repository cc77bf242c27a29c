"""What browsers are told: what pages may do, and which other sites may call."""

from flask import Flask, Response, request
from werkzeug.datastructures import Headers, ResponseCacheControl
from werkzeug.http import parse_cache_control_header
from werkzeug.sansio.request import Request

from app.headers import DATA_POLICY, SECURITY
from app.settings import Settings
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

    def instruct(response: Response) -> Response:
        add_browser_headers(response.headers, request, settings)
        return response

    app.after_request(instruct)


def add_browser_headers(
    headers: Headers | dict[str, str], request: Request, settings: Settings
) -> None:
    """Add to the `headers` of an answer to `request` what a browser is told by `settings`."""
    for name, value in SECURITY.items():
        headers.setdefault(name, value)
    if "Content-Security-Policy" not in headers:  # the demonstration has one of its own
        page = headers.get("Content-Type", "").startswith("text/html")
        headers["Content-Security-Policy"] = _PAGE if page else DATA_POLICY
    if request.is_secure:
        headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    if settings.keys and not is_open(request.path, request.method):
        # What a key was shown for is not for the next caller of a cache on the way.
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
