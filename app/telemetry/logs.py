"""The log: one line on stdout for each request, as JSON, or as text on a terminal.

It never has the content of an image.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from werkzeug.sansio.request import Request

from app.settings import Settings
from app.telemetry.record import Record
from models.terminal import one_line, printable

Writer = Callable[[Record, Request, int, int, float, str], None]


def escape_commands() -> None:
    """Escape control characters in all later log messages: they might command a terminal."""
    logging.setLogRecordFactory(_Entry)


class _Entry(logging.LogRecord):
    """A log record whose message and traceback have no control characters."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        if self.exc_info:
            self.exc_text = printable(logging.Formatter().formatException(self.exc_info))

    def getMessage(self) -> str:  # noqa: N802  (logging's name)
        return printable(super().getMessage())


def request_writer(settings: Settings) -> Writer:
    """Return a function that writes a request's line.

    It takes the record, the request, the status and the bytes of the answer, the seconds, and the
    trace id or "".
    """
    # The lowest status that each level logs.
    least = {"debug": 0, "info": 0, "warning": 400, "error": 500}[settings.log_level]
    form = _plain if sys.stdout.isatty() else _json

    def write(
        record: Record, request: Request, status: int, size: int, seconds: float, trace: str
    ) -> None:
        if status >= least:
            line = form(_content(record, request, status, size, seconds, trace)) + "\n"
            # One call, so that the lines of several workers do not mix.
            try:
                os.write(sys.stdout.fileno(), line.encode("utf-8", "backslashreplace"))
            except OSError:
                return  # the reader has gone, or the disk is full

    return write


def _content(
    record: Record, request: Request, status: int, size: int, seconds: float, trace: str
) -> dict[str, Any]:
    content: dict[str, Any] = {
        "time": _now(),
        "level": "error" if status >= 500 else "warning" if status >= 400 else "info",
        "request_id": record.request_id,
        "method": request.method[:20],
        "path": request.path[:200],
        "status": status,
        "milliseconds": round(1000 * seconds, 3),
        "bytes_in": request.content_length or 0,
        "bytes_out": size,
        "address": request.remote_addr,
    }
    if record.caller:
        content["key"] = record.caller
    if trace:
        content["trace_id"] = trace
    if record.code:
        content["code"] = record.code
    if record.model:
        content["model"] = record.model
        content["version"] = record.version
    if record.inferences:
        content["images"] = len(record.inferences[0].labels)
    stages = {name: round(1000 * took, 3) for name, (_, took) in record.stages.items()}
    if stages:
        content["stages"] = {"wait": round(1000 * record.waited, 3), **stages}
    return content


def _now() -> str:
    """Return the time in ISO 8601, with milliseconds."""
    second, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{_second(second)}.{milliseconds:03}+00:00"


@lru_cache(maxsize=1)  # most lines are written in the same second as the last one
def _second(since_1970: int) -> str:
    return datetime.fromtimestamp(since_1970, UTC).strftime("%Y-%m-%dT%H:%M:%S")


_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode  # made once


def _plain(content: dict[str, Any]) -> str:
    """Return a line for people: time, status, milliseconds, method, path, model and error."""
    shown = [
        content["time"][11:23],
        str(content["status"]),
        f"{content['milliseconds']:8.1f} ms",
        content["method"],
        content["path"],
        content.get("model", ""),
        content.get("code", ""),
    ]
    return one_line(" ".join(word for word in shown if word))
