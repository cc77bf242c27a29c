"""The observation of every request: its log line, its metrics, and its span."""

import os
import re
import socket
import struct
import threading
import time
from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, request
from werkzeug.datastructures import Headers
from werkzeug.sansio.request import Request

from app.catalogue.catalogue import Catalogue
from app.settings import Settings
from app.telemetry import inference_counts, logs, metrics, tracing
from app.telemetry.record import begin_record, end_record

REQUEST_ID = "X-Request-ID"
_GIVEN_ID = "HTTP_X_REQUEST_ID"  # its name in a WSGI environment
_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_RANDOM = 16  # random bytes of a new id
_DRAWN = 256  # ids made at once, since the call of the system takes longer than the rest
_QUIET = ("/health/", "/v2/health/", "/metrics")  # machines ask these every few seconds
_counting = threading.Lock()  # some servers have several threads
_LAST_DATA_RECEIVED = 52  # offset in Linux' struct tcp_info: milliseconds, 32 bits


def observe_requests(app: Flask, catalogue: Catalogue, settings: Settings) -> None:
    """Observe every request of `app`. Call this before other functions are registered.

    Raises StartError if traces are asked for and cannot be exported.
    """
    observer = app.extensions["observer"] = Observer(settings)

    def begin() -> None:
        observer.begin(request.environ, request.environ.get("gunicorn.socket"))

    def finish(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else ""
        size = response.content_length or 0
        observer.finish(request, route, response.status_code, response.headers, size)
        return response

    app.before_request(begin)
    app.after_request(finish)
    metrics.register_metrics(app, catalogue)


class Observer:
    """The observation of one request: its record, then its metrics, log line and trace."""

    def __init__(self, settings: Settings) -> None:
        """Raise StartError if traces are asked for and cannot be exported."""
        self._export_span = tracing.span_exporter()
        self._write_line = logs.request_writer(settings)

    def begin(self, environ: Mapping[str, Any], connection: Any) -> None:
        """Begin the record of the request of this WSGI environment.

        It came on `connection`, a socket or None.
        """
        given = environ.get(_GIVEN_ID, "")
        name = given if given and _ID.fullmatch(given) else _new_id()
        begin_record(name, _seconds_waited(connection))

    def finish(
        self,
        request: Request,
        route: str,
        status: int,
        headers: Headers | dict[str, str],
        size: int,
    ) -> None:
        """End the record of `request`, whose answer has this `status`, `headers` and `size`."""
        record = end_record()
        if record is None:
            return
        seconds = time.perf_counter() - record.started
        headers[REQUEST_ID] = record.request_id
        with _counting:
            metrics.observe(record, route, status, seconds)
            inference_counts.observe(record, status, seconds)
        trace = ""
        if self._export_span:
            trace = self._export_span(record, request, route, status, seconds)
        if status >= 400 or not request.path.startswith(_QUIET):
            self._write_line(record, request, status, size, seconds, trace)


_ids: list[str] = []
os.register_at_fork(after_in_child=_ids.clear)  # processes must not use the same ids


def _new_id() -> str:
    """Return an id that no other request has."""
    try:
        return _ids.pop()
    except IndexError:
        text = os.urandom(_RANDOM * _DRAWN).hex()
        first, *others = (text[at : at + 2 * _RANDOM] for at in range(0, len(text), 2 * _RANDOM))
        _ids.extend(others)
        return first


def _seconds_waited(connection: Any) -> float:
    """Return how long the request waited in the system's queue: the time since its last bytes came.

    It is 0 if the request is incomplete, under another server than gunicorn, and on other systems
    than Linux.
    """
    if connection is None:
        return 0.0
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 56)
    except (OSError, AttributeError):
        return 0.0
    (milliseconds,) = struct.unpack_from("I", info, _LAST_DATA_RECEIVED)
    return float(milliseconds) / 1000
