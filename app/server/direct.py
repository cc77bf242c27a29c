"""The short way of a classification: from the bytes of a request to those of its answer.

A worker asks here first. What is answered here passes neither gunicorn's parser nor WSGI nor Flask,
and by the same functions as there: the same rules, bodies and headers. Only requests as nearly all
programs and browsers send them are; any other goes on, untouched. METAPLASTIC_DIRECT=off turns it
off.
"""

import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from flask import Flask
from gunicorn import SERVER
from gunicorn.util import http_date
from werkzeug.datastructures import EnvironHeaders
from werkzeug.http import HTTP_STATUS_CODES

from app.api.classify import classification
from app.api.predict import prediction
from app.catalogue.catalogue import Catalogue
from app.errors import RequestError
from app.protocols.v2 import INFER, INFER_VERSION, inference
from app.server.connection import Connection
from app.settings import Settings
from app.web.access import believer
from app.web.answers import Content, headers_of
from app.web.body import WholeRequest
from app.web.browser_headers import add_browser_headers
from app.web.error_handlers import refusal, unforeseen
from app.web.keys import check_key

# Printable ASCII, one space behind a colon: what is written otherwise, gunicorn is to judge.
_HEAD = re.compile(
    rb"POST (/[\w./-]*)(?:\?([!$-;=?-Z_a-z~]*))? HTTP/1\.1\r\n"
    rb"((?:[A-Za-z0-9-]+: [!-~][ -~]*\r\n)+)\r\n"
)
# gunicorn refuses longer lines than fit into so many bytes, and more headers.
_MOST_HEAD, _MOST_HEADERS = 4096, 64
_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?", re.ASCII)
# Headers with a meaning that is not known here.
_FOREIGN = frozenset(
    f"HTTP_{name}"
    for name in (
        *("CONTENT_ENCODING", "EXPECT", "TRANSFER_ENCODING", "UPGRADE", "TE", "TRAILER"),
        *("X_FORWARDED_PREFIX", "X_HTTP_METHOD_OVERRIDE"),
    )
)

View = Callable[[WholeRequest], Content]  # may raise RequestError


class Direct:
    """The paths that are answered directly, and how."""

    def __init__(self, worker: Any) -> None:
        """Answer for the application of `worker`, gunicorn's."""
        app: Flask = worker.app.application
        settings: Settings = app.extensions["settings"]
        self.worker = worker
        self.settings = settings
        self.log = app.logger
        self.observer = app.extensions["observer"]
        self.keys = app.extensions.get("keys")
        # Flask-Limiter counts within Flask.
        off = not settings.direct or settings.rate_limit
        self.views = {} if off else dict(_views(app.extensions["catalogue"], settings))
        self.believe_proxies = believer(settings)
        self._date = 0, ""  # second, and the same as HTTP writes it

    def answer(self, connection: Connection) -> bool:
        """Answer the request on `connection`; False, and nothing is done, for an unusual one."""
        asked = self._read(connection)
        if asked is None:
            return False
        request, route, view = asked
        lingers = not connection.all_taken
        request.body = connection.take_body()
        self.observer.begin(request, connection)
        content = self._content(request, view)
        headers = headers_of(content)
        add_browser_headers(headers, request, self.settings)
        size = len(content.body)
        self.observer.finish(request, route, content.status, headers, size)
        wish = request.headers.get("Connection", "").lower()
        connection.closing = wish == "close" or self.worker.closing
        connection.lingers = lingers
        connection.answer(self._head(content.status, headers, connection.closing), content.body)
        return True

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
        """Return the request, its route and who answers it; None for an unusual one."""
        if connection.chunked or connection.head > _MOST_HEAD:
            return None
        found = _HEAD.fullmatch(connection.received, 0, connection.head)
        if not found or not (known := self.views.get(path := found[1].decode())):
            return None
        environ = _environ(found[3].decode(), connection.end - connection.head)
        if environ is None:
            return None
        environ["REMOTE_ADDR"], environ["wsgi.url_scheme"] = connection.address[0], "http"
        self.believe_proxies(environ)
        if not _HOST.fullmatch(environ.get("HTTP_HOST", "")):
            return None
        request = WholeRequest(
            *("POST", environ["wsgi.url_scheme"], self.worker.server_address[:2], "", path),
            *(found[2] or b"", EnvironHeaders(environ), environ["REMOTE_ADDR"]),
        )
        return request, *known

    def _head(self, status: int, headers: dict[str, str], closing: bool) -> bytes:
        """Return the head of an answer as gunicorn writes it."""
        now = int(time.time())
        if self._date[0] != now:
            self._date = now, http_date()
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        return (
            f"HTTP/1.1 {status} {HTTP_STATUS_CODES[status].upper()}\r\nServer: {SERVER}\r\n"
            f"Date: {self._date[1]}\r\nConnection: {'close' if closing else 'keep-alive'}\r\n"
            f"{lines}\r\n"
        ).encode("latin-1")


def _views(catalogue: Catalogue, settings: Settings) -> Iterator[tuple[str, tuple[str, View]]]:
    """Yield each path that is answered directly, its route's name, and who answers it."""
    yield "/predict", ("/predict", partial(prediction, catalogue=catalogue, settings=settings))
    for endpoint in catalogue.endpoints.values():
        classify = partial(classification, endpoint=endpoint, settings=settings)
        yield endpoint.path, (endpoint.path, classify)
    for model in catalogue:
        name, version = model.card.name, str(model.card.version)
        infer = partial(inference, catalogue=catalogue, settings=settings, name=name)
        yield f"/v2/models/{name}/infer", (INFER, infer)
        pinned = partial(infer, version=version)
        yield f"/v2/models/{name}/versions/{version}/infer", (INFER_VERSION, pinned)


def _environ(lines: str, length: int) -> dict[str, str] | None:
    """Return headers as WSGI names them, where all are usual, and the body has this `length`."""
    headers = lines.split("\r\n")[:-1]
    if len(headers) > _MOST_HEADERS:
        return None
    environ = {}
    for line in headers:
        name, _, value = line.partition(": ")
        environ[f"HTTP_{name.upper().replace('-', '_')}"] = value.strip()
    if len(environ) < len(headers) or not _FOREIGN.isdisjoint(environ):
        return None
    if environ.get("HTTP_CONNECTION", "close").lower() not in ("close", "keep-alive"):
        return None
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if f"HTTP_{name}" in environ:
            environ[name] = environ.pop(f"HTTP_{name}")
    said = environ.get("CONTENT_LENGTH", "0")
    return environ if said.isdigit() and int(said) == length else None
