"""The inferences of each model since the service started: the counts behind /v2/models/.../stats.

Like all metrics, they are added up over the workers, and over those that have ended. metrics.py
also counts images and the time of each stage. A comparison counts once for each of its models. An
explanation does not count, since it runs the network hundreds of times for one answer.
"""

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from prometheus_client import Gauge

from app.catalogue.network import BATCH
from app.telemetry.metrics import REGISTRY, Counter, collect
from app.telemetry.record import Record

_MODEL = ("model", "version")
_REQUESTS = Counter(
    "metaplastic_inference_requests",
    "Requests for inferences by their outcome: success, or fail after the body was read.",
    (*_MODEL, "outcome"),
    registry=REGISTRY,
)
_SECONDS = Counter(
    "metaplastic_inference_seconds",
    "Time of those requests, including the time in the queue.",
    (*_MODEL, "outcome"),
    registry=REGISTRY,
)
_EXECUTIONS = Counter(
    "metaplastic_inference_executions",
    f"Runs of the network, each on up to {BATCH} images.",
    _MODEL,
    registry=REGISTRY,
)
_LAST = Gauge(
    "metaplastic_last_inference_timestamp_seconds",
    "Time of the model's last answer, in whole seconds since 1970.",
    _MODEL,
    registry=REGISTRY,
    multiprocess_mode="max",
)


def observe(record: Record, status: int, seconds: float) -> None:
    """Count a request that took `seconds` in the worker and was answered with `status`."""
    for inference in record.inferences:
        counted = _of_success(inference.model, str(inference.version))
        counted.requests.inc()
        counted.seconds.inc(record.waited + seconds)
        counted.executions.inc(-(-len(inference.labels) // BATCH))
        counted.note_time()
    if status >= 400 and record.model and "read" in record.stages:
        name = record.model, str(record.version)
        _REQUESTS.labels(*name, "fail").inc()
        _SECONDS.labels(*name, "fail").inc(record.waited + seconds)


def read_counts() -> Mapping[tuple[str, str], Mapping[str, float]]:
    """Return the counts by model and version; a count that was never made is 0.0.

    The keys are `images`, `executions`, `last` (seconds since 1970), `count <name>` and `seconds
    <name>`, where a name is an outcome (success, fail) or a stage of a request.
    """
    found: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for metric in collect():
        for sample in metric.samples:
            if key := _KEYS.get(sample.name):
                labels = sample.labels
                kind = labels.get("outcome") or labels.get("stage", "")
                found[labels["model"], labels["version"]][f"{key}{kind}"] = sample.value
    return found


_KEYS = {
    "metaplastic_inference_requests_total": "count ",
    "metaplastic_inference_seconds_total": "seconds ",
    "metaplastic_inference_executions_total": "executions",
    "metaplastic_last_inference_timestamp_seconds": "last",
    "metaplastic_prediction_confidence_count": "images",
    "metaplastic_stage_duration_seconds_count": "count ",
    "metaplastic_stage_duration_seconds_sum": "seconds ",
}


@dataclass
class _Success:
    """The counters of the answers of one model and version."""

    requests: Any
    seconds: Any
    executions: Any
    last: Any
    second: int = 0  # the last second for which this process set `last`

    def note_time(self) -> None:
        """Set the time of the last answer, at most once in a second."""
        second = int(time.time())
        if second != self.second:
            self.last.set(second)
            self.second = second


@lru_cache(maxsize=4096)
def _of_success(model: str, version: str) -> _Success:
    name = model, version
    return _Success(
        _REQUESTS.labels(*name, "success"),
        _SECONDS.labels(*name, "success"),
        _EXECUTIONS.labels(*name),
        _LAST.labels(*name),
    )
