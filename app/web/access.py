"""Who may ask, how often, and from where: keys, rate limits, proxies, browsers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from flask import Flask, request
from werkzeug.middleware.proxy_fix import ProxyFix

from app.errors import RequestError
from app.settings import Settings
from app.web.browser_headers import instruct_browsers
from app.web.error_handlers import refuse
from app.web.keys import require_keys

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# A path on this host, such as /vision: to a browser, what begins with // is another host.
# A coded slash (%2f) may be decoded on the way, and dots lead out of the path.
_PREFIX = re.compile(r"(/(?!\.\.?(/|$))[A-Za-z0-9._~-]+)*/?")
_REFUSED_PREFIX = "metaplastic.refused_prefix"


def register_access(app: Flask, settings: Settings) -> None:
    """Do what `settings` say of access to `app`. Raises StartError where that cannot be done."""
    if settings.proxies:
        app.wsgi_app = _behind_proxies(  # type: ignore[method-assign]
            _hold_to_this_host(app.wsgi_app), settings.proxies
        )
        app.before_request(_refuse_prefix)
    instruct_browsers(app, settings)
    if settings.keys:
        require_keys(app, settings.keys)
    if settings.rate_limit:
        from app.web.rate_limits import limit_rates  # loads Flask-Limiter, for those who want it

        limit_rates(app, settings, refuse)


def _behind_proxies(application: WSGIApplication, count: int) -> ProxyFix:
    """Return `application` as one that believes what `count` proxies say of its callers."""
    # Each adds what it knows at the end, so the last `count` values are theirs.
    return ProxyFix(
        application, x_for=count, x_proto=count, x_host=count, x_port=count, x_prefix=count
    )


def believer(settings: Settings) -> Callable[[WSGIEnvironment], None]:
    """Return what writes into an environment what the proxies say that `settings` believe."""
    if not settings.proxies:
        return lambda environment: None
    fix = _behind_proxies(lambda environment, start_response: [], settings.proxies)

    def believe(environment: WSGIEnvironment) -> None:
        fix(environment, None)  # type: ignore[arg-type]  # nobody answers

    return believe


def _hold_to_this_host(application: WSGIApplication) -> WSGIApplication:
    """Serve `application` without a prefix that is no path; `_refuse_prefix` then says so."""

    def held(environment: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        prefix = environment.get("SCRIPT_NAME", "")
        if not _PREFIX.fullmatch(prefix):
            environment.update({"SCRIPT_NAME": "", _REFUSED_PREFIX: prefix})
        return application(environment, start_response)

    return held


def _refuse_prefix() -> None:
    """Raise RequestError 400 where the proxy's prefix is no path."""
    if prefix := request.environ.get(_REFUSED_PREFIX):
        message = (
            f"X-Forwarded-Prefix: expected a path such as /vision, found {prefix[:40]!r}. "
            "The proxy in front has to set this header, or to remove it."
        )
        raise RequestError(400, "bad_prefix", message)
