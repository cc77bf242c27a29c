"""What a caller chooses in the query string, checked, and its documentation."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from werkzeug.datastructures import MultiDict

from app.catalogue import Endpoint, Model, every_rule, find_each
from app.errors import RequestError

DEFAULT_TOP = 3
MOST_VERSIONS = 10**9
CHOICE = ("rule", "version")
OPTIONS = ("top", "preprocess", "sample")
CLASSIFICATION = (*CHOICE, *OPTIONS)
COMPARISON = ("rule", *OPTIONS)


@dataclass(frozen=True)
class Options:
    """How a caller wants images classified."""

    top: int  # classes listed for each image
    raw: bool  # leave out the preparation that fits an image to the training data


def read_options(query: MultiDict[str, str], models: list[Model]) -> Options:
    """How `models` are to classify. Raises RequestError 400."""
    classes = max(len(model.card.labels) for model in models)
    if not query:  # most requests
        return Options(min(DEFAULT_TOP, classes), raw=False)
    top = _whole(query, "top", 1, classes) or min(DEFAULT_TOP, classes)
    preprocess = query.get("preprocess", "auto")
    if preprocess not in ("auto", "raw"):
        message = f"preprocess: expected auto or raw, found {preprocess[:40]!r}."
        raise RequestError(400, "bad_parameter", message, parameter="preprocess")
    return Options(top, raw=preprocess == "raw")


def read_model(query: MultiDict[str, str], endpoint: Endpoint) -> Model:
    """The model that `rule` and `version` name, or the default one.

    Raises RequestError 404 for an unknown one, 400 for a version that is no number.
    """
    if not query:  # most requests
        return endpoint.find()
    return endpoint.find(query.get("rule"), _whole(query, "version", 0, MOST_VERSIONS))


def read_models(query: MultiDict[str, str], endpoints: list[Endpoint]) -> list[Model]:
    """One model of each of `endpoints`: of `rule`, where it has that, or its default one.

    Raises RequestError 404 where none has the rule.
    """
    return find_each(endpoints, query.get("rule"))


def refuse_unknown(query: MultiDict[str, str], known: Iterable[str]) -> None:
    """Raise RequestError 400 for a parameter that would otherwise be passed over in silence."""
    if unknown := [name for name in query if name not in known]:
        message = f"Unknown parameter {unknown[0][:40]!r}; there are: {', '.join(known)}."
        raise RequestError(400, "unknown_parameter", message, parameter=unknown[0][:40])


def _whole(query: MultiDict[str, str], name: str, low: int, high: int) -> int | None:
    text = query.get(name)
    if text is None:
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
            "maximum": MOST_VERSIONS,
            "description": "A version of the model; without one, the newest.",
        },
    }


def describe_classification(endpoint: Endpoint) -> dict[str, Any]:
    """Swagger parameters of a classification: the form first, as people fill it in."""
    several = " Other clients may send several files under this name."
    return {
        **_describe_form(endpoint.samples, several),
        **describe_choice(endpoint),
        **_describe_options(endpoint.classes),
    }


def describe_comparison(endpoints: list[Endpoint]) -> dict[str, Any]:
    """Swagger parameters of a comparison of a data set's `endpoints`."""
    rule = {
        "in": "query",
        "type": "string",
        "enum": every_rule(endpoints),
        "description": "Only the models trained with this learning rule; without one, the default "
        "model of each architecture.",
    }
    return {
        **_describe_form(endpoints[0].samples),
        "rule": rule,
        **_describe_options(max(endpoint.classes for endpoint in endpoints)),
    }


def _describe_form(samples: Mapping[str, bytes], more: str = "") -> dict[str, Any]:
    form: dict[str, Any] = {
        "file": {
            "in": "formData",
            "type": "file",
            "description": f"Your image; it wins over the sample.{more}",
        }
    }
    if samples:
        form["sample"] = {
            "in": "formData",
            "type": "string",
            "enum": list(samples),
            "default": next(iter(samples)),
            "description": "An image of the service's own, used where no file is chosen.",
        }
    return form


def _describe_options(classes: int) -> dict[str, Any]:
    return {
        "top": {
            "in": "query",
            "type": "integer",
            "minimum": 1,
            "maximum": classes,
            "default": min(DEFAULT_TOP, classes),
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
