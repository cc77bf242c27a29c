"""/v2/...: the Open Inference Protocol (V2) over REST, with binary tensors and classification.

https://github.com/kserve/open-inference-protocol. The extensions are Triton's.
"""

from typing import Any

import numpy as np
from flask import Blueprint, Response, request

from app.catalogue.catalogue import Catalogue, Model
from app.predict.inference import Outcome, most_probable
from app.protocols import v2_codec
from app.protocols.naming import find_model, find_versions
from app.protocols.profiling import IN_DISTRIBUTION, INPUT, PLATFORM, PROBABILITIES, outputs_of
from app.protocols.tensors import ask, most_values, network_input
from app.settings import Settings
from app.version import VERSION
from app.web.answers import Content, answer, respond
from app.web.body import AnyRequest, read_body
from app.web.readiness import check_ready

INFER = "/v2/models/<name>/infer"  # routes
INFER_VERSION = "/v2/models/<name>/versions/<version>/infer"
EXTENSIONS = [
    "classification",
    "binary_tensor_data",
    "model_repository",
    "model_configuration",
    "statistics",
]


def routes(catalogue: Catalogue, settings: Settings) -> Blueprint:
    """Return the routes below /v2, except those of the model repository."""
    space = Blueprint("v2", __name__, url_prefix="/v2")

    @space.get("")
    def server() -> Response:
        return answer({"name": "metaplastic", "version": VERSION, "extensions": EXTENSIONS})

    @space.get("/health/live")
    def live() -> Response:
        return answer({"live": True})

    @space.get("/health/ready")
    def ready() -> Response:
        check_ready(catalogue)
        return answer({"ready": True})

    @space.get("/models/<name>")
    @space.get("/models/<name>/versions/<version>")
    def metadata(name: str, version: str | None = None) -> Response:
        model = find_model(catalogue, name, version)
        return answer(_metadata(model, list(find_versions(catalogue, name))))

    @space.get("/models/<name>/ready")
    @space.get("/models/<name>/versions/<version>/ready")
    def model_ready(name: str, version: str | None = None) -> Response:
        model = find_model(catalogue, name, version)
        _ = model.network  # raises RequestError 503 if it cannot be run
        return answer({"name": name, "ready": True})

    @space.post(INFER.removeprefix("/v2"))
    @space.post(INFER_VERSION.removeprefix("/v2"))
    def infer(name: str, version: str | None = None) -> Response:
        return respond(inference(request, catalogue, settings, name, version))

    return space


def inference(
    request: AnyRequest,
    catalogue: Catalogue,
    settings: Settings,
    name: str,
    version: str | None = None,
) -> Content:
    """Return what the model `name` answers to `request`. Raises RequestError."""
    model = find_model(catalogue, name, version)
    length = request.headers.get(v2_codec.HEADER_LENGTH)
    target = model.card.input
    image = (target.height, target.width, target.channels)
    most = most_values(target, settings.max_images)
    question = v2_codec.decode(read_body(request), length, INPUT, image, outputs_of(model), most)
    pixels = network_input(question.images, target, settings.max_images)
    return _answer_to(question, model, ask(model, pixels))


def _metadata(model: Model, versions: list[int]) -> dict[str, Any]:
    card = model.card
    image = [card.input.height, card.input.width, card.input.channels]
    familiar = {"name": IN_DISTRIBUTION, "datatype": "BOOL", "shape": [-1]}
    return {
        "name": card.name,
        "versions": [str(version) for version in sorted(versions)],
        "platform": PLATFORM,
        "inputs": [{"name": INPUT, "datatype": "FP32", "shape": [-1, *image]}],
        "outputs": [
            {"name": PROBABILITIES, "datatype": "FP32", "shape": [-1, len(card.labels)]},
            *([familiar] if model.calibration else []),
        ],
    }


def _answer_to(question: v2_codec.Question, model: Model, outcome: Outcome) -> Content:
    head: dict[str, Any] = {
        "model_name": model.card.name,
        "model_version": str(model.card.version),
    }
    if question.identifier is not None:
        head["id"] = question.identifier
    outputs = [_output(model, wanted, outcome) for wanted in question.wanted]
    body, length = v2_codec.encode(head, outputs)
    if length is None:
        return Content(body + b"\n")
    headers = {v2_codec.HEADER_LENGTH: str(length)}
    return Content(body, "application/octet-stream", headers)


def _output(model: Model, wanted: v2_codec.Wanted, outcome: Outcome) -> v2_codec.Output:
    if outcome.in_distribution is not None and wanted.name == IN_DISTRIBUTION:
        return v2_codec.Output(wanted.name, "BOOL", outcome.in_distribution, wanted.binary)
    if not wanted.classes:
        values = outcome.probabilities.astype(np.float32)
        return v2_codec.Output(wanted.name, "FP32", values, wanted.binary)
    texts = [
        [
            f"{row[best]:.6f}:{best}:{model.card.labels[best]}"
            for best in most_probable(row, wanted.classes)
        ]
        for row in outcome.probabilities.tolist()
    ]
    return v2_codec.Output(wanted.name, "BYTES", np.array(texts, object), wanted.binary)
