"""One line on stdout for each request: JSON, or text on a terminal. Never an image's content."""

import contextlib
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from flask import Response, request

from app.records import Record
from app.settings import Settings

Writer = Callable[[Record, Response, float, str], None]


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
    status = response.status_code
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


_json = json.JSONEncoder(separators=(",", ":")).encode  # made once


def _plain(content: dict[str, Any]) -> str:
    """For people: time, status, milliseconds, what was asked, and of which model."""
    shown = [
        content["time"][11:23],
        str(content["status"]),
        f"{content['milliseconds']:8.1f} ms",
        content["method"],
        content["path"].encode("unicode_escape").decode(),  # no control characters in a terminal
        content.get("model", ""),
        content.get("code", ""),
    ]
    return " ".join(word for word in shown if word)
