"""What a caller chooses in the query string, checked, and its documentation."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from werkzeug.datastructures import MultiDict

from app.catalogue.catalogue import ALL_RULES, Endpoint, Model, every_rule
from app.errors import RequestError
from app.telemetry.record import note_model
from models.cards import MOST_VERSION

DEFAULT_TOP = 3
CHOICE = ("rule", "version")
OPTIONS = ("top", "preprocess", "sample")
CLASSIFICATION = (*CHOICE, *OPTIONS, "prepared", "partial", "digits")
COMPARISON = ("rule", *OPTIONS)


@dataclass(frozen=True)
class Options:
    """How a caller wants images classified."""

    top: int  # classes listed for each image
    raw: bool  # leave out the preparation that fits an image to the training data
    prepared: bool = False  # answer with the image that the network saw as well
    partial: bool = False  # answer images that cannot be used with their errors, in their place
    several: bool = False  # read the digits that stand side by side as well


def read_options(query: MultiDict[str, str], models: list[Model]) -> Options:
    """How `models` are to classify. Raises RequestError 400."""
    classes = max(len(model.card.labels) for model in models)
    if not query:  # most requests
        return Options(min(DEFAULT_TOP, classes), raw=False, prepared=False)
    top = _whole(query, "top", 1, classes) or min(DEFAULT_TOP, classes)
    return Options(
        top,
        raw=read_preprocess(query),
        prepared=_one_of(query, "prepared", "false", "true") == "true",
        partial=_one_of(query, "partial", "false", "true") == "true",
        several=_read_digits(query, models[0]),
    )


def read_preprocess(query: MultiDict[str, str]) -> bool:
    """Whether preparation is to be left out. Raises RequestError 400."""
    return _one_of(query, "preprocess", "auto", "raw") == "raw"


def _read_digits(query: MultiDict[str, str], model: Model) -> bool:
    """Whether several digits of an image are to be read. Raises RequestError 400."""
    if "digits" not in query:
        return False
    if model.card.input.style != "digit":
        message = f"digits: {model.card.endpoint} reads no digits. Leave this parameter out."
        raise RequestError(400, "bad_parameter", message, parameter="digits")
    if _one_of(query, "digits", "one", "several") == "one":
        return False
    if read_preprocess(query):
        message = (
            "digits: several are found by preparing the image, which preprocess=raw leaves out."
        )
        raise RequestError(400, "bad_parameter", message, parameter="digits")
    return True


def read_model(query: MultiDict[str, str], endpoint: Endpoint) -> Model:
    """The model that `rule` and `version` name, or the default one.

    Raises RequestError 404 for an unknown one, 400 for a version that is no number.
    """
    if not query:  # most requests
        return note_model(endpoint.find())
    version = _whole(query, "version", 0, MOST_VERSION)
    return note_model(endpoint.find(query.get("rule"), version))


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


def _one_of(query: MultiDict[str, str], name: str, *choices: str) -> str:
    """The value of `name`; without one, the first of `choices`."""
    text = query.get(name) or choices[0]
    if text not in choices:
        message = f"{name}: expected {' or '.join(choices)}, found {text[:40]!r}."
        raise RequestError(400, "bad_parameter", message, parameter=name)
    return text


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
            "maximum": MOST_VERSION,
            "description": "A version of the model; without one, the newest.",
        },
    }


def describe_classification(endpoint: Endpoint) -> dict[str, Any]:
    """Swagger parameters of a classification: the form first, as people fill it in."""
    several = " Other clients may send several files under this name."
    return {
        **describe_form(endpoint.samples, several),
        **describe_choice(endpoint),
        **_describe_options(endpoint.classes),
        "prepared": {
            "in": "query",
            "type": "string",
            "enum": ["false", "true"],
            "default": "false",
            "description": "Whether to answer with the image that the network really saw as well.",
        },
        "partial": {
            "in": "query",
            "type": "string",
            "enum": ["false", "true"],
            "default": "false",
            "description": "Whether to answer 200 where an image cannot be used, with its error in "
            'its place: `{"error": {"message": "...", "code": "not_an_image", "index": 1}}`. '
            "Otherwise one such image refuses the request.",
        },
        **(_describe_digits() if endpoint.find().card.input.style == "digit" else {}),
    }


def _describe_digits() -> dict[str, Any]:
    return {
        "digits": {
            "in": "query",
            "type": "string",
            "enum": ["one", "several"],
            "default": "one",
            "description": "`several` also reads the digits that stand side by side in an image, "
            'from left to right: `"digits": {"text": "10", "probabilities": [0.999, 0.998]}`. '
            "Digits that touch are one.",
        },
    }


def describe_comparison(endpoints: list[Endpoint]) -> dict[str, Any]:
    """Swagger parameters of a comparison of a data set's `endpoints`."""
    rule = {
        "in": "query",
        "type": "string",
        "enum": [ALL_RULES, *every_rule(endpoints)],
        "description": "Only the models trained with this learning rule, or those of `all` rules; "
        "without one, the default model of each architecture.",
    }
    return {
        **describe_form(endpoints[0].samples),
        "rule": rule,
        **_describe_options(max(endpoint.classes for endpoint in endpoints)),
    }


def describe_form(samples: Mapping[str, bytes], more: str = "") -> dict[str, Any]:
    """Swagger parameters of the form: a file, or one of `samples`."""
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
        **describe_preprocess(),
    }


def describe_preprocess() -> dict[str, Any]:
    """The Swagger parameter that leaves preparation out."""
    return {
        "preprocess": {
            "in": "query",
            "type": "string",
            "enum": ["auto", "raw"],
            "default": "auto",
            "description": "`raw` only resizes: for images that already look like the data set's.",
        }
    }
