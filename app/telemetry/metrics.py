"""What Prometheus is told, at GET /metrics: one sum over all workers.

Each worker counts in files of its own (prometheus-client's multiprocess mode), in the folder that
PROMETHEUS_MULTIPROC_DIR names; app/runtime.py makes it before this module is imported. How it
counts, also where the folder is full, is in metric_files.py.
"""

import contextlib
import fcntl
import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import prometheus_client
from flask import Flask, Response, request
from prometheus_client import CollectorRegistry, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from app.catalogue.catalogue import Catalogue
from app.errors import RequestError
from app.runtime import SCRAPES, VARIABLE
from app.telemetry.metric_files import AllocatedFile, Value, find_room, values_without_room
from app.telemetry.record import Record

REFUSALS = (
    401,
    403,
    408,
    413,
    429,
    503,
)  # answers that a bound gave, and not the request's content
vars(values)["ValueClass"] = Value  # prometheus-client has no setting for this
REGISTRY = CollectorRegistry()
_MODEL = ("model", "version")


class Counter(prometheus_client.Counter):
    """One that takes no exemplars, and little time."""

    def inc(self, amount: float = 1, _: Any = None) -> None:
        """Count `amount`, which is not negative."""
        self._value.place[0] += amount


class Histogram(prometheus_client.Histogram):
    """One that takes no exemplars, and little time."""

    def observe(self, amount: float, _: Any = None) -> None:
        """Count `amount`."""
        self._sum.place[0] += amount
        self._buckets[bisect_left(self._upper_bounds, amount)].place[0] += 1


REQUESTS = Counter(
    "metaplastic_requests", "Requests answered.", ("route", *_MODEL, "status"), registry=REGISTRY
)
DURATION = Histogram(
    "metaplastic_request_duration_seconds",
    "From a worker's first look at a request to its answer.",
    ("route", *_MODEL, "status"),
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
STAGE = Histogram(
    "metaplastic_stage_duration_seconds",
    "Of the stages of a request: wait, read, decode, prepare, infer, answer.",
    ("stage", *_MODEL),
    buckets=(0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
    registry=REGISTRY,
)
REFUSED = Counter(
    "metaplastic_rejected_requests",
    "Requests refused by a bound: keys, sizes, rates, queues; reason is the error's code.",
    ("reason",),
    registry=REGISTRY,
)
PREDICTIONS = Counter(
    "metaplastic_predictions", "Images by predicted class.", (*_MODEL, "label"), registry=REGISTRY
)
CONFIDENCE = Histogram(
    "metaplastic_prediction_confidence",
    "Calibrated probability of the predicted class.",
    _MODEL,
    buckets=(0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1),
    registry=REGISTRY,
)
UNFAMILIAR = Counter(
    "metaplastic_out_of_distribution",
    "Images unlike the training data.",
    _MODEL,
    registry=REGISTRY,
)


_NOT_TOGETHER = RequestError(
    501,
    "not_counted_together",
    "This server has several processes, and each counts for itself. Start `python wsgi.py`, or "
    "`gunicorn -c gunicorn.conf.py wsgi:app`, or name an empty folder in PROMETHEUS_MULTIPROC_DIR.",
)


def observe(record: Record, route: str, status: int, seconds: float) -> None:
    """Count a request that has been answered."""
    find_room()
    model, version = _name(record.model)
    requests, duration = _of_request(route, model, version, status)
    requests.inc()
    duration.observe(seconds)
    asked = (model, version) if "read" in record.stages else ("", "")  # and not only looked at
    _of_stage("wait", *asked).observe(record.waited)
    for stage, (_, took) in record.stages.items():
        _of_stage(stage, *asked).observe(took)
    if status in REFUSALS:
        REFUSED.labels(record.code or str(status)).inc()
    for answered, outcome in record.answers:
        name = _name(answered)
        confidence, unfamiliar = _of_model(*name)
        best = outcome.probabilities.argmax(axis=1)
        for row, index in enumerate(best.tolist()):
            _of_label(*name, answered.card.labels[index]).inc()
            confidence.observe(float(outcome.probabilities[row, index]))
        if strange := len(best) - np.count_nonzero(outcome.in_distribution):
            unfamiliar.inc(strange)


def refuse_outside(reason: str) -> None:
    """Count a request that was refused before the application saw it."""
    REFUSED.labels(reason).inc()


def _name(model: Any) -> tuple[str, str]:
    return (model.card.name, str(model.card.version)) if model else ("", "")


# Finding a metric by its labels takes longer than counting; what there is to find is bounded.
@lru_cache(maxsize=4096)
def _of_request(route: str, model: str, version: str, status: int) -> tuple[Any, Any]:
    labels = route, model, version, str(status)
    return REQUESTS.labels(*labels), DURATION.labels(*labels)


@lru_cache(maxsize=4096)
def _of_stage(stage: str, model: str, version: str) -> Any:
    return STAGE.labels(stage, model, version)


@lru_cache(maxsize=4096)
def _of_model(model: str, version: str) -> tuple[Any, Any]:
    return CONFIDENCE.labels(model, version), UNFAMILIAR.labels(model, version)


@lru_cache(maxsize=65536)
def _of_label(model: str, version: str, label: str) -> Any:
    return PREDICTIONS.labels(model, version, label)


def register_metrics(app: Flask, catalogue: Catalogue) -> None:
    """Add the route /metrics."""
    now = _Now(catalogue, app.extensions)

    @app.get("/metrics")
    def metrics() -> Response:
        registry = CollectorRegistry()
        registry.register(now)
        folder = os.environ.get(VARIABLE)
        encode, kind = choose_encoder(request.headers.get("Accept", ""))
        if not folder and request.environ.get("wsgi.multiprocess"):
            raise _NOT_TOGETHER.again()
        if not folder:  # a single process, as in tests: it has all there is
            registry.register(REGISTRY)
            return Response(encode(registry), content_type=kind)
        MultiProcessCollector(registry, folder)
        with _lock(Path(folder), fcntl.LOCK_SH):
            return Response(encode(registry), content_type=kind)


def collect() -> list[Metric]:
    """Return all that has been counted, added up over the workers."""
    folder = os.environ.get(VARIABLE)
    if not folder:  # a single process
        return list(REGISTRY.collect())
    with _lock(Path(folder), fcntl.LOCK_SH):
        return list(MultiProcessCollector(CollectorRegistry(), folder).collect())


class _Now:
    """What is true at the moment of a scrape, as the worker that is asked knows it."""

    def __init__(self, catalogue: Catalogue, extensions: Mapping[str, Any]) -> None:
        self.catalogue = catalogue
        self.extensions = extensions  # the application's

    def collect(self) -> Iterator[Metric]:
        queue = GaugeMetricFamily(
            "metaplastic_queue_depth",
            "Connections that wait for a free worker, and requests that wait in the asked one.",
        )
        if worker := self.extensions.get("worker"):  # none where the server is not ours
            # gunicorn's own measure; -1 on systems that do not tell.
            queue.add_metric([], max(0, worker.listener.get_backlog()) + len(worker.waiting))
        yield queue
        yield GaugeMetricFamily(
            "metaplastic_metrics_without_room",
            "Values that the asked worker alone knows, since the folder of all has no room.",
            values_without_room(),
        )
        counts = self.extensions.get("rate_limit_counts")
        yield CounterMetricFamily(
            "metaplastic_rate_limit_counts_forgotten",
            "Callers' counts that made room for others' before their time was over.",
            counts.forgotten if counts else 0,
        )
        loaded = GaugeMetricFamily(
            "metaplastic_model_loaded",
            "1 for each model and version that is served; default: its rule's newest.",
            labels=[*_MODEL, "default"],
        )
        for endpoint in self.catalogue.endpoints.values():
            for versions in endpoint.models.values():
                newest = max(versions)
                for version, model in versions.items():
                    if model.known_problem:
                        continue
                    default = str(version == newest).lower()
                    loaded.add_metric([model.card.name, str(version), default], 1)
        yield loaded

    def describe(self) -> list[Any]:
        """Nothing: prometheus-client would otherwise collect to find the names."""
        return []


def keep_counts_of(pid: int) -> None:
    """Add what the dead worker `pid` counted to what all the dead counted, and remove its files.

    Of times, which are gauges, the latest is kept. Where there is no room, the files stay, and are
    read with the others'.
    """
    folder = Path(os.environ[VARIABLE])
    with contextlib.suppress(OSError), _lock(folder, fcntl.LOCK_EX):
        for path in folder.glob(f"*_{pid}.db"):
            _add_to(path.with_name(path.name.replace(f"_{pid}.", "_past.")), path)


def _add_to(past: Path, ended: Path) -> None:
    """Add the values of the file `ended` to `past`'s, and remove it. Raises OSError: no room."""
    latest = past.name.startswith("gauge_max_")
    file: Any = AllocatedFile(str(past))
    with contextlib.closing(file):
        found = list(file.read_all_values_from_file(str(ended)))
        for key, *_ in found:
            file.make_room_for(key)
        for key, value, *_ in found:
            before = file.read_value(key)[0]
            file.write_value(key, max(before, value) if latest else before + value, 0.0)
    ended.unlink()


@contextlib.contextmanager
def _lock(folder: Path, kind: int) -> Iterator[None]:
    """No scrape sees the counts of a dead worker twice, or not at all."""
    with (folder / SCRAPES).open("w") as file:
        fcntl.flock(file, kind)
        yield
