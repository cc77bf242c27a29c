"""Rate limits for each key, or for each address if no key is required, through Flask-Limiter.

The counts are in Redis if METAPLASTIC_REDIS names one, so that several machines share them.
Otherwise the workers of this service share a table in memory: see app/web/rate_limit_store.py.
"""

from collections.abc import Callable
from http import HTTPStatus

from flask import Flask, Response, request
from flask_limiter import Limiter, RateLimitExceeded
from limits import parse_many

from app.errors import RETRY_AFTER, RequestError
from app.settings import Settings
from app.web.addresses import caller_of
from app.web.keys import is_open
from app.web.rate_limit_store import SCHEME, table


def limit_rates(app: Flask, settings: Settings, refuse: Callable[[RequestError], Response]) -> None:
    """Answer 429 to a caller of `app` who sends more requests than the settings allow.

    `refuse` makes a response of an error.
    """
    # Flask runs these functions in reverse order, so this one runs after the limiter's.
    app.after_request(_say_when_to_retry)
    limiter = Limiter(
        _caller,
        app=app,
        # One count for all routes together, and not one for each route.
        application_limits=[settings.rate_limit],
        application_limits_per_method=False,
        storage_uri=f"{SCHEME}://",
        storage_options={"redis": settings.redis},
        headers_enabled=True,
        key_prefix="metaplastic",
    )
    app.extensions["rate_limit_counts"] = table()
    limiter.request_filter(lambda: is_open(request.path, request.method))

    def too_many(error: RateLimitExceeded) -> Response:
        return refuse(rate_limited(error.limit.limit))

    app.register_error_handler(RateLimitExceeded, too_many)


def first_limit(limits: str) -> object:
    """Return the first of `limits`, which has the syntax of METAPLASTIC_RATE_LIMIT."""
    return parse_many(limits)[0]


def rate_limited(limit: object) -> RequestError:
    """Return the refusal of a caller who has reached `limit`, such as "60 per 1 minute"."""
    message = f"The limit is {limit}; Retry-After says when to try again."
    return RequestError(429, "rate_limited", message)


def _say_when_to_retry(response: Response) -> Response:
    """Set Retry-After on 429 and 503, and remove it elsewhere; Flask-Limiter sets it everywhere."""
    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        seconds = response.headers.get("Retry-After", RETRY_AFTER)
        # At the end of a window the value may be 0.
        response.headers["Retry-After"] = max(seconds, RETRY_AFTER, key=int)
    elif response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = RETRY_AFTER
    else:
        response.headers.pop("Retry-After", None)
    return response


def _caller() -> str:
    return caller_of(request)
