"""Rate limits per key, or per address where no key is asked for, through Flask-Limiter.

The counts are in Redis where METAPLASTIC_REDIS names one, so that several machines share them.
Otherwise the workers of this service share a table in memory.
"""

import ipaddress
from collections.abc import Callable
from http import HTTPStatus

from flask import Flask, Response, request
from flask_limiter import Limiter, RateLimitExceeded
from flask_limiter.util import get_remote_address
from limits import parse_many

from app.errors import RETRY_AFTER, RequestError
from app.settings import Settings
from app.telemetry.record import current_record
from app.web.keys import is_open
from app.web.rate_limit_store import SCHEME, table


def limit_rates(app: Flask, settings: Settings, refuse: Callable[[RequestError], Response]) -> None:
    """Answer 429 to a caller of `app` who asks more often than the settings say.

    `refuse` makes an answer of an error.
    """
    # Registered before the limiter, so that it runs after it.
    app.after_request(_say_when_to_retry)
    limiter = Limiter(
        _caller,
        app=app,
        # All routes together count, not each for itself.
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
    """Return the first of the `limits`, which are written as METAPLASTIC_RATE_LIMIT is."""
    return parse_many(limits)[0]


def rate_limited(limit: object) -> RequestError:
    """Return the refusal of a caller who has used up `limit`, which prints as "60 per 1 minute"."""
    message = f"The limit is {limit}; Retry-After says when to try again."
    return RequestError(429, "rate_limited", message)


def _say_when_to_retry(response: Response) -> Response:
    """Flask-Limiter tells everybody to wait until the window ends; only 429 and 503 have to."""
    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        seconds = response.headers.get("Retry-After", RETRY_AFTER)
        response.headers["Retry-After"] = max(seconds, RETRY_AFTER, key=int)
    elif response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = RETRY_AFTER
    else:
        response.headers.pop("Retry-After", None)
    return response


def _caller() -> str:
    record = current_record()
    if record and record.caller:
        return f"key:{record.caller}"
    return network_of(get_remote_address())


def network_of(address: str) -> str:
    """What is counted as one caller: an IPv4 address, or the /64 that an IPv6 address is in.

    A customer of a provider has at least a whole /64. What is no address is itself.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
