"""What each model has inferred since the service started: the counts behind /v2/models/.../stats.

Added up over the workers, dead ones included, as all metrics are: see app/metrics.py. A comparison
counts once for each of its models. An explanation, which asks the network hundreds of times for one
answer, does not count.
"""

import time
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple

from prometheus_client import Counter, Gauge

from app.inference import BATCH
from app.metrics import REGISTRY, collect
from app.records import Record

# The parts of an inference as Triton names them, and the stages of a request that are in each.
PARTS = {
    "queue": ("wait",),
    "compute_input": ("read", "decode", "prepare"),
    "compute_infer": ("infer",),
    "compute_output": ("answer",),
}
_MODEL = ("model", "version")
_REQUESTS = Counter(
    "metaplastic_inference_requests",
    "Requests for inferences by their outcome: success or fail.",
    (*_MODEL, "outcome"),
    registry=REGISTRY,
)
_SECONDS = Counter(
    "metaplastic_inference_seconds",
    "Time of those requests: success and fail in all, and of success each part.",
    (*_MODEL, "part"),
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
    "When the model last answered, in seconds since 1970.",
    _MODEL,
    registry=REGISTRY,
    multiprocess_mode="max",
)


def observe(record: Record, status: int, seconds: float) -> None:
    """Count a request that took `seconds` in the worker and was answered with `status`."""
    took = {name: spent for name, (_, spent) in record.stages.items()} | {"wait": record.waited}
    for model, outcome, inferring in record.answers:
        counted = _of_success(model.card.name, str(model.card.version))
        counted.requests.inc()
        counted.executions.inc(-(-len(outcome.probabilities) // BATCH))
        counted.last.set(time.time())
        counted.seconds.inc(record.waited + seconds)
        took["infer"] = inferring
        for part, stages in PARTS.items():
            counted.parts[part].inc(sum(took.get(stage, 0.0) for stage in stages))
    if status >= HTTPStatus.BAD_REQUEST and record.model and "read" in record.stages:
        name = record.model.card.name, str(record.model.card.version)
        _REQUESTS.labels(*name, "fail").inc()
        _SECONDS.labels(*name, "fail").inc(record.waited + seconds)


def read_counts() -> Mapping[tuple[str, str], Mapping[str, float]]:
    """Return what was counted, by model and version: 0 for what never was.

    The keys are `images`, `executions`, `last` (seconds since 1970), `success` and `fail`
    (requests), and of the times, in seconds, `seconds_success`, `seconds_fail` and
    `seconds_<part>`.
    """
    found: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for metric in collect():
        for sample in metric.samples:
            labels = sample.labels
            match sample.name:
                case "metaplastic_inference_requests_total":
                    key = labels["outcome"]
                case "metaplastic_inference_seconds_total":
                    key = f"seconds_{labels['part']}"
                case "metaplastic_prediction_confidence_count":
                    key = "images"
                case "metaplastic_inference_executions_total":
                    key = "executions"
                case "metaplastic_last_inference_timestamp_seconds":
                    key = "last"
                case _:
                    continue
            found[labels["model"], labels["version"]][key] = sample.value
    return found


class _Success(NamedTuple):
    """What counts the answers of one model and version."""

    requests: Any
    seconds: Any
    parts: Mapping[str, Any]
    executions: Any
    last: Any


@lru_cache(maxsize=4096)
def _of_success(model: str, version: str) -> _Success:
    name = model, version
    return _Success(
        _REQUESTS.labels(*name, "success"),
        _SECONDS.labels(*name, "success"),
        {part: _SECONDS.labels(*name, part) for part in PARTS},
        _EXECUTIONS.labels(*name),
        _LAST.labels(*name),
    )
