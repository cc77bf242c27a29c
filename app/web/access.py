"""Access to the service: keys, rate limits, proxies and browsers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask, request
from werkzeug.middleware.proxy_fix import ProxyFix

from app.errors import RequestError
from app.settings import Settings
from app.web.browser_headers import add_security_headers
from app.web.error_handlers import refuse
from app.web.keys import require_keys

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# A path on this host, such as /vision. A browser takes //example.org for another host, a proxy may
# decode %2f to a slash, and dots lead out of the path, so all three are refused.
_PREFIX = re.compile(r"(/(?!\.\.?(/|$))[A-Za-z0-9._~-]+)*/?")
_REFUSED_PREFIX = "metaplastic.refused_prefix"


def register_access(app: Flask, settings: Settings) -> None:
    """Apply the access rules of `settings` to `app`. Raises StartError if that is impossible."""
    if count := settings.proxies:
        # Each proxy appends its value to the headers, so the last `count` values are from trusted
        # proxies.
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            _hold_to_this_host(app.wsgi_app),
            x_for=count,
            x_proto=count,
            x_host=count,
            x_port=count,
            x_prefix=count,
        )
        app.before_request(_refuse_prefix)
    # Headers are added to all answers, also to refusals. Keys are checked before rates are counted,
    # so that each key has a count of its own.
    add_security_headers(app, settings)
    if settings.keys:
        require_keys(app, settings.keys)
    if settings.rate_limit:
        # Only here: Flask-Limiter need not be loaded where no limit is set.
        from app.web.rate_limits import limit_rates

        limit_rates(app, settings, refuse)


def _hold_to_this_host(application: WSGIApplication) -> WSGIApplication:
    """Return `application` with unsafe prefixes removed, for which `_refuse_prefix` answers 400."""

    def held(environment: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        prefix = environment.get("SCRIPT_NAME", "")
        if not _PREFIX.fullmatch(prefix):
            environment.update({"SCRIPT_NAME": "", _REFUSED_PREFIX: prefix})
        return application(environment, start_response)

    return held


def _refuse_prefix() -> None:
    """Raise RequestError 400 if the proxy's prefix is not a path."""
    if prefix := request.environ.get(_REFUSED_PREFIX):
        message = (
            f"X-Forwarded-Prefix: expected a path such as /vision, found {prefix[:40]!r}. "
            "Configure the proxy to set or remove this header."
        )
        raise RequestError(400, "bad_prefix", message)
