"""/v2/models/.../config and /stats, which performance analysers read before and after they measure.

These are Triton's extensions model_configuration and statistics (docs/protocol of
triton-inference-server). Swagger shows both; the protocol's other routes are in docs/protocols.md.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import flask_restx
from flask import Response

from app.catalogue.catalogue import Catalogue, Model
from app.protocols.naming import find_model, find_versions
from app.settings import Settings
from app.telemetry import inference_counts
from app.web import schemas
from app.web.answers import Resource, answer

# The names of the tensors of a model, and of the software that runs it.
INPUT = "images"
PROBABILITIES = "probabilities"
IN_DISTRIBUTION = "in_distribution"
PLATFORM = "onnxruntime_onnx"


class Served(Resource):
    """A resource about the models that are served."""

    def __init__(self, api: Any, catalogue: Catalogue, settings: Settings) -> None:
        super().__init__(api)
        self.catalogue = catalogue
        self.settings = settings


class Configuration(Served):
    """The configuration of a model."""

    def get(self, name: str, version: str | None = None) -> Response:
        """Return a model's configuration as Triton's ModelConfig."""
        return answer(configuration(find_model(self.catalogue, name, version), self.settings))


class Statistics(Served):
    """The statistics of models."""

    def get(self, name: str | None = None, version: str | None = None) -> Response:
        """Count inferences and their times since the service started."""
        models: Iterable[Model] = self.catalogue
        if name is not None:
            models = find_versions(self.catalogue, name).values()
        if name is not None and version is not None:
            models = [find_model(self.catalogue, name, version)]
        counts = inference_counts.read_counts()
        rows = [_row(model, counts.get(_identity(model), {})) for model in models]
        return answer({"model_stats": rows})


def outputs_of(model: Model) -> tuple[str, ...]:
    """Return the names of the outputs. A BOOL cannot say "not known", so some models have one."""
    return (PROBABILITIES, IN_DISTRIBUTION) if model.calibration else (PROBABILITIES,)


def configuration(model: Model, settings: Settings) -> dict[str, Any]:
    """Return the configuration of `model`.

    `dims` are for one image; a request has up to `max_batch_size` images.
    """
    card, image = model.card, model.card.input
    # One value for each image. Its shape has no axis besides the batch.
    familiar = {
        "name": IN_DISTRIBUTION,
        "data_type": "TYPE_BOOL",
        "dims": [1],
        "reshape": {"shape": []},
    }
    return {
        "name": card.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "version_policy": {"all": {}},
        "max_batch_size": settings.max_images,
        "input": [
            {
                "name": INPUT,
                "data_type": "TYPE_FP32",
                "format": "FORMAT_NHWC",
                "dims": [image.height, image.width, image.channels],
            }
        ],
        "output": [
            {"name": PROBABILITIES, "data_type": "TYPE_FP32", "dims": [len(card.labels)]},
            *([familiar] if model.calibration else []),
        ],
        "instance_group": [{"name": card.name, "kind": "KIND_CPU", "count": settings.workers}],
        "default_model_filename": model.runs,
    }


def _identity(model: Model) -> tuple[str, str]:
    return model.card.name, str(model.card.version)


def _row(model: Model, counts: Mapping[str, float]) -> dict[str, Any]:
    """Return a model's statistics. Times are in nanoseconds, `last_inference` in milliseconds."""
    name, version = _identity(model)
    return {
        "name": name,
        "version": version,
        "last_inference": int(1000 * counts.get("last", 0)),  # milliseconds since 1970
        "inference_count": int(counts.get("images", 0)),
        "execution_count": int(counts.get("executions", 0)),
        "inference_stats": {
            part: {
                "count": int(counts.get(f"count {stages[-1]}", 0)),
                "ns": int(1e9 * sum(counts.get(f"seconds {stage}", 0) for stage in stages)),
            }
            for part, stages in _PARTS.items()
        },
        "batch_stats": [],  # batch sizes are not counted
    }


# Triton's names, and the outcome or the stages of a request that each name sums up. Its count is
# that of the last stage.
_PARTS = {
    "success": ("success",),
    "fail": ("fail",),
    "queue": ("wait",),
    "compute_input": ("read", "decode", "prepare"),
    "compute_infer": ("infer",),
    "compute_output": ("answer",),
    "cache_hit": ("no cache",),
    "cache_miss": ("no cache",),
}


def namespace(catalogue: Catalogue, settings: Settings) -> Any:
    """Return the namespace with the routes /v2/models/.../config and /stats."""
    space = flask_restx.Namespace(
        "v2",
        "For performance analysers. docs/protocols.md has the other routes of /v2 and /v1",
        path="/v2/models",
    )
    of_name = {
        "name": {
            "in": "path",
            "type": "string",
            "enum": sorted({model.card.name for model in catalogue}),  # several have versions
            "description": "<dataset>-<architecture>-<rule>.",
        }
    }
    of_version = {**of_name, "version": _VERSION}
    counted = {200: ("The statistics.", schemas.statistics)}
    configured = {200: ("The configuration.", schemas.configuration)}
    served = {"catalogue": catalogue, "settings": settings}
    for resource, url, identifier, parameters, success in (
        (Configuration, "/<name>/config", "configuration", of_name, configured),
        (Configuration, f"{_PINNED}/config", "configuration_of_version", of_version, configured),
        (Statistics, "/stats", "all_statistics", {}, counted),
        (Statistics, "/<name>/stats", "statistics", of_name, counted),
        (Statistics, f"{_PINNED}/stats", "statistics_of_version", of_version, counted),
    ):
        errors = (404, 500) if parameters else (500,)
        documented = schemas.responses(success, *errors, shape=schemas.protocol_error)
        space.add_resource(
            resource,
            url,
            endpoint=identifier,
            resource_class_kwargs=served,
            route_doc={"get": {"id": identifier, "params": parameters, "responses": documented}},
        )
    return space


_PINNED = "/<name>/versions/<version>"
_VERSION = {"in": "path", "type": "string", "description": "A version of the model."}
