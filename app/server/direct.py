"""Direct answers to classifications: from the bytes of a request to the bytes of its answer.

A worker tries this first. A request that is answered here does not pass through gunicorn's parser,
WSGI and Flask. The same functions answer it, so the rules, bodies and headers are the same. Only
requests in the form that nearly all clients send are answered here. Any other request goes to
gunicorn unchanged. METAPLASTIC_DIRECT=off turns this off.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from flask import Flask
from gunicorn import SERVER
from gunicorn.util import http_date
from werkzeug.http import HTTP_STATUS_CODES

from app.api.classify import classification
from app.api.predict import prediction
from app.catalogue.catalogue import Catalogue
from app.errors import TOO_BUSY, RequestError
from app.protocols.v2 import INFER, INFER_VERSION, inference
from app.server.aside import Aside
from app.server.connection import Connection
from app.server.head import HEAD, HOST, MOST_HEAD, environ_of
from app.settings import Settings
from app.web.access import believer
from app.web.answers import Content, headers_of
from app.web.body import WholeRequest
from app.web.browser_headers import add_browser_headers
from app.web.error_handlers import refusal, unforeseen
from app.web.keys import check_key

View = Callable[[WholeRequest], Content]  # may raise RequestError


class Direct:
    """The paths that are answered directly, and their functions."""

    def __init__(self, worker: Any) -> None:
        """Prepare the answers of the application of `worker`."""
        app: Flask = worker.app.application
        settings: Settings = app.extensions["settings"]
        self.worker = worker
        self.settings = settings
        self.log = app.logger
        self.observer = app.extensions["observer"]
        self.keys = app.extensions.get("keys")
        # Flask-Limiter counts inside Flask, so with a rate limit nothing is answered directly.
        off = not settings.direct or settings.rate_limit
        feedback = app.extensions.get("feedback")
        self.waits: frozenset[str] = frozenset()  # routes whose answers wait for a disk
        self.views = {} if off else dict(_views(app.extensions["catalogue"], settings, feedback))
        if feedback and not off:
            # Only here: the store of votes need not be loaded where no votes are asked for.
            from app.api.feedback import PATH, store_votes

            catalogue = app.extensions["catalogue"]
            vote = partial(store_votes, catalogue=catalogue, feedback=feedback, keys=self.keys)
            self.views[PATH] = PATH, vote
            self.waits = frozenset({PATH})
        self.aside = Aside(settings.read_timeout)
        self.believe_proxies = believer(settings)
        self._date = 0, ""  # the current second, and its text in HTTP

    def answer(self, connection: Connection) -> bool:
        """Answer the request on `connection`, and return True. Return False for an unusual request.

        An unusual request is left as it is.
        """
        asked = self._read(connection)
        if asked is None:
            return False
        request, route, view = asked
        if route in self.waits:
            if not connection.all_taken:  # the next request has come already
                return False
            if self._give_away(connection, request, route, view):
                return True
            view = _refuse_now
        request.body = connection.take_body()
        content, headers = self._answer(connection, request, route, view)
        wish = request.environ.get("HTTP_CONNECTION", "").lower()
        connection.closing = wish == "close" or self.worker.closes(connection)
        connection.answer(self._head(content.status, headers, connection.closing), content.body)
        return True

    def _answer(
        self, connection: Connection, request: WholeRequest, route: str, view: View
    ) -> tuple[Content, dict[str, str]]:
        """Return the answer to `request`, and its headers. The request is observed."""
        self.observer.begin(request.environ, connection)
        content = self._content(request, view)
        headers = headers_of(content)
        add_browser_headers(headers, request, self.settings)
        size = len(content.body)
        self.observer.finish(request, route, content.status, headers, size)
        return content, headers

    def _give_away(
        self, connection: Connection, request: WholeRequest, route: str, view: View
    ) -> bool:
        """Have a thread answer `request`. Return False if too many wait for that already."""
        request.body = connection.body()

        def answer() -> bytes:
            content, headers = self._answer(connection, request, route, view)
            return self._head(content.status, headers, closing=True) + content.body

        return self.aside.take(connection, answer)

    def _content(self, request: WholeRequest, view: View) -> Content:
        try:
            if self.keys:
                check_key(self.keys, request)
            return view(request)
        except RequestError as error:
            return refusal(error, request.path)
        except Exception as error:
            return refusal(unforeseen(error, request, self.log), request.path)

    def _read(self, connection: Connection) -> tuple[WholeRequest, str, View] | None:
        """Return the request, its route and its function, or None for an unusual request."""
        if connection.chunked or connection.head > MOST_HEAD:
            return None
        found = HEAD.fullmatch(connection.received, 0, connection.head)
        if not found or not (known := self.views.get(path := found[1].decode())):
            return None
        environ = environ_of(found[3].decode(), connection.end - connection.head)
        if environ is None:
            return None
        if "HTTP_HOST" not in environ:  # gateway.py refuses it, also if a proxy names a host
            return None
        environ["REMOTE_ADDR"], environ["wsgi.url_scheme"] = connection.address[0], "http"
        self.believe_proxies(environ)
        # A proxy may name any scheme, and Flask routes ws and wss otherwise.
        scheme = environ["wsgi.url_scheme"]
        if scheme not in ("http", "https") or not HOST.fullmatch(environ["HTTP_HOST"]):
            return None
        return WholeRequest(environ, self.worker.server_address[:2], path, found[2] or b""), *known

    def _head(self, status: int, headers: dict[str, str], closing: bool) -> bytes:
        """Return the head of an answer in gunicorn's form."""
        now = int(time.time())
        if self._date[0] != now:
            self._date = now, http_date()
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        return (
            f"HTTP/1.1 {status} {HTTP_STATUS_CODES[status].upper()}\r\nServer: {SERVER}\r\n"
            f"Date: {self._date[1]}\r\nConnection: {'close' if closing else 'keep-alive'}\r\n"
            f"{lines}\r\n"
        ).encode("latin-1")


def _refuse_now(_: WholeRequest) -> Content:
    """Refuse a request for which there is no thread. Here all others would wait for the disk."""
    raise TOO_BUSY.again()


def _views(
    catalogue: Catalogue, settings: Settings, feedback: Any
) -> Iterator[tuple[str, tuple[str, View]]]:
    """Yield each path that is answered directly, with the name of its route and its function."""
    given = {"settings": settings, "feedback": feedback}
    yield "/predict", ("/predict", partial(prediction, catalogue=catalogue, **given))
    for endpoint in catalogue.endpoints.values():
        classify = partial(classification, endpoint=endpoint, **given)
        yield endpoint.path, (endpoint.path, classify)
    for model in catalogue:
        name, version = model.card.name, str(model.card.version)
        infer = partial(inference, catalogue=catalogue, settings=settings, name=name)
        yield f"/v2/models/{name}/infer", (INFER, infer)
        pinned = partial(infer, version=version)
        yield f"/v2/models/{name}/versions/{version}/infer", (INFER_VERSION, pinned)
