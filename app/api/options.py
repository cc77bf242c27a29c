"""What a caller chooses in the query string, checked, and its documentation."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from werkzeug.datastructures import MultiDict

from app.catalogue import Endpoint, Model
from app.errors import RequestError

DEFAULT_TOP = 3
CHOICE = ("rule", "version")
CLASSIFICATION = (*CHOICE, "top", "preprocess", "sample")


@dataclass(frozen=True)
class Options:
    """How a caller wants images classified."""

    model: Model
    top: int  # classes listed for each image
    raw: bool  # leave out the preparation that fits an image to the training data


def read_options(query: MultiDict[str, str], endpoint: Endpoint) -> Options:
    """The options of a classification.

    Raises RequestError 404 for an unknown rule or version, 400 for anything else.
    """
    refuse_unknown(query, CLASSIFICATION)
    model = read_model(query, endpoint)
    classes = len(model.card.labels)
    top = _whole(query, "top", 1, classes) or min(DEFAULT_TOP, classes)
    preprocess = query.get("preprocess", "auto")
    if preprocess not in ("auto", "raw"):
        message = f"preprocess: expected auto or raw, found {preprocess[:40]!r}."
        raise RequestError(400, "bad_parameter", message, parameter="preprocess")
    return Options(model, top, raw=preprocess == "raw")


def read_model(query: MultiDict[str, str], endpoint: Endpoint) -> Model:
    """The model that `rule` and `version` name, or the default one. Raises RequestError."""
    return endpoint.find(query.get("rule") or None, _whole(query, "version", 0, 10**9))


def refuse_unknown(query: MultiDict[str, str], known: Iterable[str]) -> None:
    """Raise RequestError 400 for a parameter that would otherwise be passed over in silence."""
    if unknown := [name for name in query if name not in known]:
        message = f"Unknown parameter {unknown[0][:40]!r}; there are: {', '.join(known)}."
        raise RequestError(400, "unknown_parameter", message, parameter=unknown[0][:40])


def _whole(query: MultiDict[str, str], name: str, low: int, high: int) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not re.fullmatch("[0-9]{1,10}", text) or not low <= int(text) <= high:
        message = f"{name}: expected a whole number from {low} to {high}, found {text[:40]!r}."
        raise RequestError(400, "bad_parameter", message, parameter=name)
    return int(text)


def describe_choice(endpoint: Endpoint) -> dict[str, Any]:
    """Swagger parameters that choose a model."""
    return {
        "rule": {
            "in": "query",
            "type": "string",
            "enum": list(endpoint.models),
            "default": endpoint.default_rule,
            "description": "The learning rule that the network was trained with.",
        },
        "version": {
            "in": "query",
            "type": "integer",
            "minimum": 0,
            "description": "A version of the model; without one, the newest.",
        },
    }


def describe_classification(endpoint: Endpoint) -> dict[str, Any]:
    """Swagger parameters of a classification: the form first, as people fill it in."""
    parameters: dict[str, Any] = {}
    if endpoint.samples:
        parameters["sample"] = {
            "in": "formData",
            "type": "string",
            "enum": list(endpoint.samples),
            "default": next(iter(endpoint.samples)),
            "description": "An image of the service's own, used where no file is chosen.",
        }
    return {
        "file": {
            "in": "formData",
            "type": "file",
            "description": "Your image; it wins over the sample. Other clients may send several "
            "files under this name.",
        },
        **parameters,
        **describe_choice(endpoint),
        "top": {
            "in": "query",
            "type": "integer",
            "minimum": 1,
            "maximum": endpoint.classes,
            "default": min(DEFAULT_TOP, endpoint.classes),
            "description": "How many classes to list for each image, the most probable first.",
        },
        "preprocess": {
            "in": "query",
            "type": "string",
            "enum": ["auto", "raw"],
            "default": "auto",
            "description": "`raw` only resizes: for images that already look like the data set's.",
        },
    }
