"""One line on stdout for each request: JSON, or text on a terminal. Never an image's content."""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from flask import Response

from app.settings import Settings
from app.telemetry.record import Record, this_request
from models.terminal import one_line, printable

Writer = Callable[[Record, Response, float, str], None]


def escape_commands() -> None:
    """Have everything that is logged from now on be safe on a terminal."""
    logging.setLogRecordFactory(_Entry)


class _Entry(logging.LogRecord):
    """One whose message and trace command no terminal, whatever a caller put into them."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        if self.exc_info:
            self.exc_text = printable(logging.Formatter().formatException(self.exc_info))

    def getMessage(self) -> str:  # noqa: N802  (logging's name)
        return printable(super().getMessage())


def request_writer(settings: Settings) -> Writer:
    """What writes the line of a request, given its record, answer, seconds and trace id or ''."""
    least = {"debug": 0, "info": 0, "warning": 400, "error": 500}[settings.log_level]
    form = _plain if sys.stdout.isatty() else _json

    def write(record: Record, response: Response, seconds: float, trace: str) -> None:
        if response.status_code >= least:
            line = form(_content(record, response, seconds, trace)) + "\n"
            # One call, so that the lines of several workers do not mix.
            with contextlib.suppress(OSError):  # nobody reads any more, or the disk is full
                os.write(sys.stdout.fileno(), line.encode("utf-8", "backslashreplace"))

    return write


def _content(record: Record, response: Response, seconds: float, trace: str) -> dict[str, Any]:
    status, request = response.status_code, this_request()
    content: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": "error" if status >= 500 else "warning" if status >= 400 else "info",
        "request_id": record.request_id,
        "method": request.method[:20],
        "path": request.path[:200],
        "status": status,
        "milliseconds": round(1000 * seconds, 3),
        "bytes_in": request.content_length or 0,
        "bytes_out": response.content_length or 0,
        "address": request.remote_addr,
    }
    if record.caller:
        content["key"] = record.caller
    if trace:
        content["trace_id"] = trace
    if record.code:
        content["code"] = record.code
    if record.model:
        content["model"] = record.model.card.name
        content["version"] = record.model.card.version
    if record.answers:
        content["images"] = len(record.answers[0][1].probabilities)
    stages = {name: round(1000 * took, 3) for name, (_, took) in record.stages.items()}
    if stages:
        content["stages"] = {"wait": round(1000 * record.waited, 3), **stages}
    return content


_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode  # made once


def _plain(content: dict[str, Any]) -> str:
    """For people: time, status, milliseconds, what was asked, and of which model."""
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
