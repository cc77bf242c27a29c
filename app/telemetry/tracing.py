"""A span for each request, exported by OpenTelemetry if its standard variables ask for it.

OpenTelemetry is only imported then. Its packages are in requirements-tracing.txt.
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables
"""

import functools
import importlib.util
import os
import time
from collections.abc import Callable
from typing import Any

from flask import request

from app.settings import StartError
from app.telemetry.record import Record

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
Export = Callable[[Record, str, int, float], str]


def wanted() -> bool:
    """Return whether the variables ask for traces."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "")
    return exporter == "otlp" or (not exporter and any(map(os.environ.get, ENDPOINTS)))


def _check() -> None:
    """Raise StartError if traces are asked for and cannot be exported."""
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "")
    if exporter not in ("", "none", "otlp"):
        raise StartError(f"OTEL_TRACES_EXPORTER: expected otlp or none, found {exporter!r}")
    if not wanted():
        return
    for name in PROTOCOLS:
        if os.environ.get(name, "http/protobuf") != "http/protobuf":
            raise StartError(f"{name}: expected http/protobuf, found {os.environ[name]!r}")
    if not importlib.util.find_spec("opentelemetry"):
        raise StartError(
            "OTEL_* variables ask for traces, but OpenTelemetry is not installed. Run "
            "pip install -r requirements-tracing.txt, or unset the variables."
        )


def span_exporter() -> Export | None:
    """Return a function that exports a request's span and returns its trace id, or None.

    Raises StartError if traces are asked for and cannot be exported.
    """
    _check()
    if not wanted():
        return None

    def export(record: Record, route: str, status: int, seconds: float) -> str:
        return _exporter()(record, route, status, seconds)

    return export


@functools.cache
def _exporter() -> Export:
    """Return the exporter. It has a thread, so a worker makes it with its first request."""
    from opentelemetry import propagate, trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = "OTEL_SERVICE_NAME" in os.environ
    resource = Resource.create({} if named else {"service.name": "metaplastic"})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracer = provider.get_tracer("metaplastic")

    # The span is made after the request has ended, with the times of the record.
    def send(record: Record, route: str, status: int, seconds: float) -> str:
        # Spans have times of day in nanoseconds.
        offset = time.time_ns() - int(1e9 * (record.started + seconds))

        def at(moment: float) -> int:
            return offset + int(1e9 * moment)

        span = tracer.start_span(
            f"{request.method} {route}".strip(),
            context=propagate.extract({name.lower(): value for name, value in request.headers}),
            kind=trace.SpanKind.SERVER,
            start_time=at(record.started - record.waited),
            attributes=_attributes(record, route, status),
        )
        if status >= 500:
            span.set_status(trace.StatusCode.ERROR)
        inside = trace.set_span_in_context(span)
        stages = {"wait": (record.started - record.waited, record.waited), **record.stages}
        for stage, (began, took) in stages.items():
            part = tracer.start_span(stage, context=inside, start_time=at(began))
            part.end(at(began + took))
        span.end(at(record.started + seconds))
        return trace.format_trace_id(span.get_span_context().trace_id)

    return send


def _attributes(record: Record, route: str, status: int) -> dict[str, Any]:
    """Return the span's attributes, named by OpenTelemetry's conventions for HTTP if possible."""
    attributes: dict[str, Any] = {
        "http.request.method": request.method,
        "http.route": route,
        "http.response.status_code": status,
        "metaplastic.request_id": record.request_id,
    }
    if record.model:
        attributes["metaplastic.model"] = record.model
        attributes["metaplastic.version"] = record.version
    if record.code:
        attributes["error.type"] = record.code
    return attributes
