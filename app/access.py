"""Who may ask, how often, and from where: keys, rate limits, proxies, browsers."""

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from app.api.errors import refuse
from app.browsers import instruct_browsers
from app.keys import require_keys
from app.settings import Settings


def register_access(app: Flask, settings: Settings) -> None:
    """Do what `settings` say of access to `app`. Raises StartError where that cannot be done."""
    if count := settings.proxies:
        # Each adds what it knows at the end, so the last `count` values are theirs.
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=count, x_proto=count, x_host=count, x_port=count, x_prefix=count
        )
    instruct_browsers(app, settings)
    if settings.keys:
        require_keys(app, settings.keys)
    if settings.rate_limit:
        from app.limits import limit_rates  # loads Flask-Limiter, for those who want it

        limit_rates(app, settings, refuse)
