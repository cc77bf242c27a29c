"""/v1/models/...: TensorFlow Serving's REST API.

https://www.tensorflow.org/tfx/serving/api_rest. A model has three signatures, one for each way to
send images: `serving_default` (floats in 0..1), `uint8` (0..255) and `image_bytes` (image files in
base64, prepared as /api prepares them).
"""

from typing import Any

import numpy as np
from flask import Blueprint, Response, request

from app.catalogue.catalogue import Catalogue, Model
from app.errors import RequestError, check_number
from app.images.upload import Upload
from app.predict.classify import recognise_each
from app.predict.inference import Outcome, join, record_outcome
from app.protocols.naming import find_challenger, find_model, find_versions
from app.protocols.tensors import ask, from_json, most_values, network_input
from app.settings import Settings
from app.web.answers import answer
from app.web.body import read_base64, read_body, read_object

EXPECTED = '{"instances": [...]} or {"inputs": ...}'
DEFAULT, BYTES, FILES = "serving_default", "uint8", "image_bytes"
INPUTS = {DEFAULT: "images", BYTES: "images", FILES: "image_bytes"}  # signature -> input
OUTPUT = "probabilities"
# The usual labels of versions: the champion, which answers by default, and the challenger.
STABLE, CANARY = "stable", "canary"


def routes(catalogue: Catalogue, settings: Settings) -> Blueprint:
    """Return the routes below /v1."""
    space = Blueprint("tfserving", __name__, url_prefix="/v1/models")

    def find(name: str, version: str | None, label: str | None) -> Model:
        if label not in (None, STABLE):
            challenger = find_challenger(catalogue, name)
            if label != CANARY or challenger is None:
                known = f"{STABLE}, {CANARY}" if challenger else STABLE
                message = f"{name} has no version label {str(label)[:40]!r}; it has: {known}."
                raise RequestError(404, "unknown_label", message)
            version = str(challenger.card.version)
        return find_model(catalogue, name, version)

    @space.get("/<name>")
    @space.get("/<name>/versions/<version>")
    @space.get("/<name>/labels/<label>")
    def status(name: str, version: str | None = None, label: str | None = None) -> Response:
        models = [find(name, version, label)]
        if version is None and label is None:
            models = list(find_versions(catalogue, name).values())
        return answer({"model_version_status": [_status(model) for model in models]})

    @space.get("/<name>/metadata")
    @space.get("/<name>/versions/<version>/metadata")
    @space.get("/<name>/labels/<label>/metadata")
    def metadata(name: str, version: str | None = None, label: str | None = None) -> Response:
        return answer(_metadata(find(name, version, label)))

    @space.post("/<name>:predict")
    @space.post("/<name>/versions/<version>:predict")
    @space.post("/<name>/labels/<label>:predict")
    def predict(name: str, version: str | None = None, label: str | None = None) -> Response:
        model = find(name, version, label)
        most = most_values(model.card.input, settings.max_images)
        content = read_object(read_body(request), EXPECTED, most)
        # "instances" lists one value for each image, "inputs" one list for each input.
        by_row = "instances" in content
        if by_row == ("inputs" in content):
            raise _bad(f"Expected either {EXPECTED}.")
        sent = content["instances"] if by_row else content["inputs"]
        outcome = _outcome(sent, by_row, content.get("signature_name"), model, settings)
        found = outcome.probabilities.astype(np.float32).tolist()
        return answer({"predictions" if by_row else "outputs": found})

    return space


def _status(model: Model) -> dict[str, Any]:
    problem = model.known_problem
    return {
        "version": str(model.card.version),
        "state": "END" if problem else "AVAILABLE",
        "status": {"error_code": "UNKNOWN" if problem else "OK", "error_message": problem or ""},
    }


def _metadata(model: Model) -> dict[str, Any]:
    card = model.card
    image = (-1, card.input.height, card.input.width, card.input.channels)
    sent = {DEFAULT: ("DT_FLOAT", image), BYTES: ("DT_UINT8", image), FILES: ("DT_STRING", (-1,))}
    output = _tensor(OUTPUT, "DT_FLOAT", (-1, len(card.labels)))
    signatures = {
        signature: {
            "inputs": {INPUTS[signature]: _tensor(f"{signature}_{INPUTS[signature]}", *tensor)},
            "outputs": {OUTPUT: output},
            "method_name": "tensorflow/serving/predict",
        }
        for signature, tensor in sent.items()
    }
    return {
        "model_spec": {"name": card.name, "signature_name": "", "version": str(card.version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _tensor(name: str, dtype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    sizes = [{"size": str(size), "name": ""} for size in shape]
    return {
        "dtype": dtype,
        "tensor_shape": {"dim": sizes, "unknown_rank": False},
        "name": f"{name}:0",
    }


def _outcome(sent: Any, by_row: bool, signature: Any, model: Model, settings: Settings) -> Outcome:
    """Return the outcome of `model` for images that were `sent` by row or by column.

    Raises RequestError.
    """
    if signature == "":  # TensorFlow Serving's clients send "" for the default
        signature = None
    if signature is not None and signature not in list(INPUTS):
        known = ", ".join(INPUTS)
        raise _bad(f"There is no signature {str(signature)[:40]!r}; there are: {known}.")
    rows = sent if by_row else _unwrap(sent, signature)
    if not isinstance(rows, list):
        raise _bad(f"Expected a list of images. {_HOW}")
    if by_row:
        rows = [_unwrap(row, signature) for row in rows]
    signature = signature or _implied(rows)
    if signature == FILES:
        return _recognise(rows, model, settings)
    values = from_json(rows, None, "UINT8" if signature == BYTES else "FP64")
    return ask(model, network_input(values, model.card.input, settings.max_images))


def _unwrap(value: Any, signature: str | None) -> Any:
    """Return `value`, without the name of its input if it has one."""
    # {"b64": ...} is the value itself and not the name of an input.
    if not isinstance(value, dict) or "b64" in value:
        return value
    names = {INPUTS[signature]} if signature else set(INPUTS.values())
    if len(value) != 1 or not names >= set(value):
        listed = " or ".join(sorted(names))
        raise _bad(f"Expected one input, {listed}; found {', '.join(value)[:60]!r}.")
    return next(iter(value.values()))


def _implied(rows: list[Any]) -> str:
    """Return the signature that fits the images, for requests that name none.

    Whole numbers cannot be floats in 0..1 if one of them is above 1.
    """
    if rows and isinstance(rows[0], dict):
        return FILES
    values = from_json(rows, None, "FP64")
    with np.errstate(invalid="ignore"):
        whole = values.size and values.max() > 1 and bool(np.all(values == np.floor(values)))
    return BYTES if whole else DEFAULT


def _recognise(rows: list[Any], model: Model, settings: Settings) -> Outcome:
    """Return the outcome of `model` for image files in base64, which are prepared as by /api."""
    if not rows:
        raise _bad(f"There is no image. {_HOW}")
    check_number(len(rows), settings.max_images)
    uploads = [Upload(_from_base64(row), None) for row in rows]
    seen = recognise_each(model, uploads, settings, raw=False)
    outcome = join([one.outcome for one in seen])  # for the metrics, as one inference
    record_outcome(model, outcome)
    return outcome


def _from_base64(row: Any) -> bytes:
    match row:
        case {"b64": str() as text, **others} if not others:
            try:
                return read_base64(text)
            except ValueError as error:
                raise _bad(f"b64: {error}.") from None
    raise _bad(f'Expected an image file as {{"b64": "..."}}. {_HOW}')


_HOW = "The model's metadata lists its signatures."


def _bad(message: str) -> RequestError:
    return RequestError(400, "bad_predict_request", message)
