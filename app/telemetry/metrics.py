"""GET /metrics for Prometheus: the sum over all workers.

Each worker counts in its own files (prometheus-client's multiprocess mode), in the folder that
PROMETHEUS_MULTIPROC_DIR names. app/runtime.py makes the folder before this module is imported.
app/telemetry/metric_files.py does the counting, also if the folder has no space left.
"""

import contextlib
import fcntl
import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

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

# Statuses that a limit causes, and not the content of the request.
REFUSALS = (401, 403, 408, 413, 429, 503)
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
    "From the start of a request in a worker to its answer.",
    ("route", *_MODEL, "status"),
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
STAGE = Histogram(
    "metaplastic_stage_duration_seconds",
    "Time of each stage of a request: wait, read, decode, prepare, infer, answer.",
    ("stage", *_MODEL),
    buckets=(0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
    registry=REGISTRY,
)
REFUSED = Counter(
    "metaplastic_rejected_requests",
    "Requests refused by a limit: keys, sizes, rates, queues. reason is the error's code.",
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
VOTES = Counter(
    "metaplastic_votes",
    "Votes about answers: up or down, by the label of the answer. A changed vote counts again.",
    (*_MODEL, "label", "vote"),
    registry=REGISTRY,
)
LOST = Counter(
    "metaplastic_feedback_lost",
    "Predictions that could not be kept for a vote.",
    # Without a label the value would be made in the master, which does not count.
    ("reason",),
    registry=REGISTRY,
)


_NOT_TOGETHER = RequestError(
    501,
    "not_counted_together",
    "This server has several processes that do not share their counts. Start `python wsgi.py` or "
    "`gunicorn -c gunicorn.conf.py wsgi:app`, or set PROMETHEUS_MULTIPROC_DIR to an empty folder.",
)


def observe(record: Record, route: str, status: int, seconds: float) -> None:
    """Count a request that has been answered."""
    find_room()
    model, version = record.model, str(record.version) if record.model else ""
    requests, duration = _of_request(route, model, version, status)
    requests.inc()
    duration.observe(seconds)
    # Requests that only look at a model, such as one for its card, have no stage `read`.
    asked = (model, version) if "read" in record.stages else ("", "")
    wait, *stages = _of_stages(tuple(record.stages), *asked)
    wait.observe(record.waited)
    for stage, (_, took) in zip(stages, record.stages.values(), strict=True):
        stage.observe(took)
    if status in REFUSALS:
        _of_refusal(record.code or str(status)).inc()
    for inference in record.inferences:
        name = inference.model, str(inference.version)
        confidence, unfamiliar = _of_model(*name)
        for label, probability in zip(inference.labels, inference.confidences, strict=True):
            _of_label(*name, label).inc()
            confidence.observe(probability)
        if inference.unfamiliar:
            unfamiliar.inc(inference.unfamiliar)
    if record.votes or record.lost:
        LOST.labels("no_room").inc(record.lost)
    for voted, of_version, label, kind in record.votes:
        VOTES.labels(voted, str(of_version), label, kind).inc()


def count_refusal(reason: str) -> None:
    """Count a request that was refused before the application received it."""
    _of_refusal(reason).inc()


# Finding a metric by its labels takes longer than counting. The number of labels is bounded.
@lru_cache(maxsize=256)
def _of_refusal(reason: str) -> Any:
    return REFUSED.labels(reason)


@lru_cache(maxsize=4096)
def _of_request(route: str, model: str, version: str, status: int) -> tuple[Any, Any]:
    labels = route, model, version, str(status)
    return REQUESTS.labels(*labels), DURATION.labels(*labels)


@lru_cache(maxsize=4096)
def _of_stages(stages: tuple[str, ...], model: str, version: str) -> list[Any]:
    """Return the histogram of `wait`, and those of `stages`."""
    return [STAGE.labels(stage, model, version) for stage in ("wait", *stages)]


@lru_cache(maxsize=4096)
def _of_model(model: str, version: str) -> tuple[Any, Any]:
    return CONFIDENCE.labels(model, version), UNFAMILIAR.labels(model, version)


@lru_cache(maxsize=65536)
def _of_label(model: str, version: str, label: str) -> Any:
    return PREDICTIONS.labels(model, version, label)


def register_metrics(app: Flask, catalogue: Catalogue) -> None:
    """Add the route /metrics to `app`."""
    now = _Now(catalogue, app.extensions)

    @app.get("/metrics")
    def metrics() -> Response:
        registry = CollectorRegistry()
        registry.register(now)
        folder = os.environ.get(VARIABLE)
        encode, kind = choose_encoder(request.headers.get("Accept", ""))
        if not folder and request.environ.get("wsgi.multiprocess"):
            raise _NOT_TOGETHER.again()
        if not folder:  # a single process, as in tests, has all counts
            registry.register(REGISTRY)
            return Response(encode(registry), content_type=kind)
        MultiProcessCollector(registry, folder)
        with _lock(Path(folder), fcntl.LOCK_SH):
            return Response(encode(registry), content_type=kind)


def collect() -> list[Metric]:
    """Return all counts, added up over the workers."""
    folder = os.environ.get(VARIABLE)
    if not folder:  # a single process
        return list(REGISTRY.collect())
    with _lock(Path(folder), fcntl.LOCK_SH):
        return list(MultiProcessCollector(CollectorRegistry(), folder).collect())


class _Now:
    """Gauges that are read at the time of a scrape, in the worker that answers it."""

    def __init__(self, catalogue: Catalogue, extensions: Mapping[str, Any]) -> None:
        self.catalogue = catalogue
        self.extensions = extensions  # the application's

    def collect(self) -> Iterator[Metric]:
        queue = GaugeMetricFamily(
            "metaplastic_queue_depth",
            "Connections that wait for a free worker, and requests that wait in the answering one.",
        )
        if worker := self.extensions.get("worker"):  # absent under another server
            # gunicorn's measure: the listen queue; -1 on systems that do not report it.
            queue.add_metric([], max(0, worker.listener.get_backlog()) + len(worker.waiting))
        yield queue
        yield GaugeMetricFamily(
            "metaplastic_metrics_without_room",
            "Values that only the answering worker has, since the shared folder is full.",
            values_without_room(),
        )
        counts = self.extensions.get("rate_limit_counts")
        yield CounterMetricFamily(
            "metaplastic_rate_limit_counts_forgotten",
            "Callers' counts that were replaced before their window was over.",
            counts.forgotten if counts else 0,
        )
        loaded = GaugeMetricFamily(
            "metaplastic_model_loaded",
            "1 for each model and version that is served. default: it answers for its rule.",
            labels=[*_MODEL, "default"],
        )
        for endpoint in self.catalogue.endpoints.values():
            for versions in endpoint.models.values():
                champion = next(iter(versions))
                for version, model in versions.items():
                    if model.known_problem:
                        continue
                    default = str(version == champion).lower()
                    loaded.add_metric([model.card.name, str(version), default], 1)
        yield loaded
        yield _aliases(self.catalogue)
        yield _gates(self.extensions.get("feedback"))

    def describe(self) -> list[Any]:
        """Return nothing: otherwise prometheus-client would collect to find the names."""
        return []


def _aliases(catalogue: Catalogue) -> Metric:
    """Return the versions that have the names champion and challenger."""
    named = GaugeMetricFamily(
        "metaplastic_alias",
        "The version of the champion, which answers, and of the challenger.",
        labels=["model", "alias"],
    )
    for endpoint in catalogue.endpoints.values():
        for rule in endpoint.models:
            champion, challenger = endpoint.find(rule), endpoint.challengers.get(rule)
            for alias, model in ("champion", champion), ("challenger", challenger):
                if model:
                    named.add_metric([model.card.name, alias], model.card.version)
    return named


def _gates(feedback: Any) -> Metric:
    """Return the verdicts about the last challenger of each model."""
    gates = GaugeMetricFamily(
        "metaplastic_challenger_gate",
        "The verdict of each gate about the last challenger of a model.",
        labels=[*_MODEL, "gate", "verdict"],
    )
    verdicts = feedback.verdicts() if feedback else []
    for model, version, gate, verdict in verdicts:
        gates.add_metric([model, version, gate, verdict], 1)
    return gates


def keep_counts_of(pid: int) -> None:
    """Add the counts of the ended worker `pid` to those of all ended workers, and remove its files.

    Of gauges, which are times, the latest is kept. If there is no space, the files stay and are
    read with the others.
    """
    folder = Path(os.environ[VARIABLE])
    with contextlib.suppress(OSError), _lock(folder, fcntl.LOCK_EX):
        for path in folder.glob(f"*_{pid}.db"):
            _add_to(path.with_name(path.name.replace(f"_{pid}.", "_past.")), path)


def _add_to(past: Path, ended: Path) -> None:
    """Add the values of the file `ended` to the file `past`, and remove it. Raises OSError."""
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
    """Lock the files, so that a scrape counts an ended worker exactly once."""
    with (folder / SCRAPES).open("w") as file:
        fcntl.flock(file, kind)
        yield
