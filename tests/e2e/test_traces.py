"""OpenTelemetry: spans where its variables ask for them, and nothing of it otherwise."""

import gzip
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.e2e.conftest import PATIENCE, ROOT, Service

Start = Callable[..., AbstractContextManager[Service]]
FailToStart = Callable[..., "subprocess.CompletedProcess[str]"]
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector(HTTPServer):
    """Receives OTLP over HTTP, as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.received: list[ExportTraceServiceRequest] = []

    @property
    def spans(self) -> list[tuple[str, object]]:
        """(service name, span) of everything received."""
        return [
            (_attributes(resource.resource)["service.name"], span)
            for export in self.received
            for resource in export.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.received.append(ExportTraceServiceRequest.FromString(body))
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join(PATIENCE)


def _attributes(thing: object) -> dict[str, object]:
    return {
        entry.key: getattr(entry.value, entry.value.WhichOneof("value"))
        for entry in thing.attributes  # type: ignore
    }


def test_a_request_is_a_span_below_the_callers_with_a_part_for_each_stage(
    start: Start, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    with start(workers=1) as service:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-ID": "traced"}
        url = f"{service.url}/predict?sample=seven"
        assert requests.post(url, headers=headers, timeout=PATIENCE).status_code == 200
        assert TRACE in service.log.read_text()
        assert service.stop()[0] == 0  # a worker sends what it has before it goes
    spans = [(name, span) for name, span in collector.spans if span.trace_id.hex() == TRACE]
    assert {name for name, _ in spans} == {"metaplastic"}
    by_name = {span.name: span for _, span in spans}
    stages = {"wait", "read", "decode", "prepare", "infer", "answer"}
    assert set(by_name) == {"POST /predict", *stages}
    request = by_name["POST /predict"]
    assert request.parent_span_id.hex() == PARENT
    found = _attributes(request)
    assert found["http.response.status_code"] == 200
    assert found["http.route"] == "/predict"
    assert found["metaplastic.model"] == "mnist-lenet-metaplastic"
    assert found["metaplastic.request_id"] == "traced"
    for stage in stages:
        part = by_name[stage]
        assert part.parent_span_id == request.span_id
        assert request.start_time_unix_nano <= part.start_time_unix_nano
        assert part.end_time_unix_nano <= request.end_time_unix_nano + 1000  # rounding


UNTRACED = """
import sys
from app import create_app
client = create_app().test_client()
assert client.post("/predict?sample=seven").status_code == 200
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"opentelemetry", "requests", "redis"}, loaded
"""
WITHOUT = """
import sys
sys.modules["opentelemetry"] = None  # as where it is not installed
from app.server.main import main
main()
"""


def run(script: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
    ],
)
def test_nothing_of_it_is_loaded_where_nobody_asks(variables: dict[str, str]) -> None:
    result = run(UNTRACED, **variables)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "pip install -r requirements-tracing.txt"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "expected otlp or none"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "expected http/protobuf",
        ),
    ],
)
def test_traces_that_cannot_be_had_stop_the_start(variables: dict[str, str], message: str) -> None:
    result = run(WITHOUT, **variables)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
