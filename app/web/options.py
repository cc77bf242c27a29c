"""The parameters of query strings and forms: one table, and what reads and documents its rows."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from werkzeug.datastructures import MultiDict

from app.catalogue.catalogue import ALL_RULES, Endpoint, Model, every_rule
from app.errors import RequestError
from app.telemetry.record import note_model
from models.cards import MOST_VERSION

DEFAULT_TOP = 3  # classes listed for each image


@dataclass(frozen=True)
class Parameter:
    """One row of the table: how a parameter is checked, and what Swagger says about it.

    A parameter with `choices` takes one of them. One with `low` takes a whole number from `low` to
    `high`. Limits that depend on the model are given to `read_number` and `describe`.
    """

    description: str
    choices: tuple[str, ...] = ()
    default: str | None = None  # one of the choices
    low: int | None = None
    high: int | None = None
    type: str = "string"  # Swagger's name
    place: str = "query"  # or "formData"


PARAMETERS = {
    "file": Parameter(
        "Your image. It takes precedence over the sample.", type="file", place="formData"
    ),
    "sample": Parameter(
        "One of the service's own images. It is used when no file is chosen.", place="formData"
    ),
    "rule": Parameter("The learning rule that the network was trained with."),
    "version": Parameter(
        "The version of the model. The default is the champion, or else the newest published one.",
        low=0,
        high=MOST_VERSION,
        type="integer",
    ),
    "top": Parameter(
        "How many classes to list for each image, the most probable first.", low=1, type="integer"
    ),
    "preprocess": Parameter(
        "`raw` only resizes the image. Use it for images that already look like the data set's.",
        choices=("auto", "raw"),
        default="auto",
    ),
    "prepared": Parameter(
        "`true` adds the image that the network received to the answer.",
        choices=("false", "true"),
        default="false",
    ),
    "partial": Parameter(
        "`true` answers 200 if an image cannot be used, with the error in place of its prediction: "
        '`{"error": {"message": "...", "code": "not_an_image", "index": 1}}`. '
        "With `false`, one such image makes the whole request fail.",
        choices=("false", "true"),
        default="false",
    ),
    "digits": Parameter(
        "`several` also reads digits that stand side by side in an image, from left to right: "
        '`"digits": {"text": "10", "probabilities": [0.999, 0.998]}`. '
        "Digits that touch are read as one.",
        choices=("one", "several"),
        default="one",
    ),
    "key": Parameter(
        "Delete the predictions and votes of the key with this name. Without keys: `address:...`."
    ),
    "before": Parameter(
        "Delete the predictions before this time (UTC), with their votes: `2026-11-28` or "
        "`2026-11-28T18:00:00`."
    ),
    "prediction_id": Parameter("Delete this prediction, with its vote."),
    "label": Parameter("The class to explain. The default is the most probable class."),
    "format": Parameter(
        "Numbers or a picture. Without this parameter the `Accept` header decides.",
        choices=("json", "png"),
    ),
}

# The parameters that each kind of request takes in its query string.
DELETION = ("key", "before", "prediction_id")
CHOICE = ("rule", "version")
_OPTIONS = ("top", "preprocess", "sample")
CLASSIFICATION = (*CHOICE, *_OPTIONS, "prepared", "partial", "digits")
COMPARISON = ("rule", *_OPTIONS)
EXPLANATION = (*CHOICE, "label", "format", "preprocess", "sample")


class Options(NamedTuple):
    """How a caller wants images classified."""

    top: int  # classes listed for each image
    raw: bool  # skip the preparation that fits an image to the training data
    prepared: bool = False  # add the image that the network received
    partial: bool = False  # report the error of an unusable image in its place
    several: bool = False  # read digits that stand side by side as well


def read_options(query: MultiDict[str, str], models: list[Model]) -> Options:
    """Return how `models` are to classify. Raises RequestError 400."""
    classes = max([len(model.card.labels) for model in models])
    if not query:  # most requests
        return Options(min(DEFAULT_TOP, classes), raw=False)
    return Options(
        read_number(query, "top", classes) or min(DEFAULT_TOP, classes),
        raw=read_choice(query, "preprocess") == "raw",
        prepared=read_choice(query, "prepared") == "true",
        partial=read_choice(query, "partial") == "true",
        several=_read_digits(query, models[0]),
    )


def _read_digits(query: MultiDict[str, str], model: Model) -> bool:
    """Return whether to read several digits of an image. Raises RequestError 400."""
    if "digits" not in query:
        return False
    if model.card.input.style != "digit":
        message = f"digits: {model.card.endpoint} does not read digits. Leave this parameter out."
        raise RequestError(400, "bad_parameter", message, parameter="digits")
    if read_choice(query, "digits") == "one":
        return False
    if read_choice(query, "preprocess") == "raw":
        message = (
            "digits: several digits can only be found in a prepared image. "
            "Leave out preprocess=raw or digits=several."
        )
        raise RequestError(400, "bad_parameter", message, parameter="digits")
    return True


def read_model(query: MultiDict[str, str], endpoint: Endpoint) -> Model:
    """Return the model that `rule` and `version` name, or the default model.

    Raises RequestError 404 for an unknown model, and 400 for a version that is not a number.
    """
    if query:
        model = endpoint.find(query.get("rule"), read_number(query, "version"))
    else:  # most requests
        model = endpoint.find()
    note_model(model.card.name, model.card.version)
    return model


def refuse_unknown(query: MultiDict[str, str], known: Iterable[str]) -> None:
    """Raise RequestError 400 for a parameter that is not `known`, so that none is ignored."""
    if query and (unknown := [name for name in query if name not in known]):
        listed = ", ".join(known) or "none"
        message = f"Unknown parameter {unknown[0][:40]!r}; there are: {listed}."
        raise RequestError(400, "unknown_parameter", message, parameter=unknown[0][:40])


def read_number(query: MultiDict[str, str], name: str, high: int | None = None) -> int | None:
    """Return the number that the parameter `name` has, or None if it is absent.

    `high` replaces the table's upper limit. Raises RequestError 400.
    """
    text = query.get(name)
    if text is None:
        return None
    low, high = PARAMETERS[name].low or 0, high or PARAMETERS[name].high or 0
    if not re.fullmatch("[0-9]{1,10}", text) or not low <= int(text) <= high:
        message = f"{name}: expected a whole number from {low} to {high}, found {text[:40]!r}."
        raise RequestError(400, "bad_parameter", message, parameter=name)
    return int(text)


def read_choice(query: MultiDict[str, str], name: str) -> str | None:
    """Return the choice that the parameter `name` has, or its default if it is absent or empty.

    Raises RequestError 400.
    """
    choices = PARAMETERS[name].choices
    text = query.get(name) or PARAMETERS[name].default
    if text is not None and text not in choices:
        message = f"{name}: expected {' or '.join(choices)}, found {text[:40]!r}."
        raise RequestError(400, "bad_parameter", message, parameter=name)
    return text


def describe(name: str, **more: Any) -> dict[str, Any]:
    """Return Swagger's description of the parameter `name`; `more` adds to the table's row."""
    row = PARAMETERS[name]
    described = {
        "in": row.place,
        "type": row.type,
        "description": row.description,
        "enum": list(row.choices) or None,
        "default": row.default,
        "minimum": row.low,
        "maximum": row.high,
    } | more
    return {name: {key: value for key, value in described.items() if value is not None}}


def describe_choice(endpoint: Endpoint) -> dict[str, Any]:
    """Return the Swagger parameters that choose a model of `endpoint`."""
    rules = {"enum": list(endpoint.models), "default": endpoint.default_rule}
    return describe("rule", **rules) | describe("version")


def describe_classification(endpoint: Endpoint) -> dict[str, Any]:
    """Return the Swagger parameters of a classification, the form's fields first."""
    digits = describe("digits") if endpoint.find().card.input.style == "digit" else {}
    return {
        **describe_form(endpoint.samples, " Other clients may send several files under this name."),
        **describe_choice(endpoint),
        **_describe_options(endpoint.classes),
        **describe("prepared"),
        **describe("partial"),
        **digits,
    }


def describe_comparison(endpoints: list[Endpoint]) -> dict[str, Any]:
    """Return the Swagger parameters of a comparison of a data set's `endpoints`."""
    rule = describe(
        "rule",
        enum=[ALL_RULES, *every_rule(endpoints)],
        description="Compares only the models trained with this learning rule; `all` compares the "
        "models of every rule. The default is the default model of each architecture.",
    )
    classes = max(endpoint.classes for endpoint in endpoints)
    return {**describe_form(endpoints[0].samples), **rule, **_describe_options(classes)}


def describe_form(samples: Mapping[str, bytes], more: str = "") -> dict[str, Any]:
    """Return the Swagger parameters of the form: a file, or one of `samples`.

    `more` is added to the description of the file.
    """
    form = describe("file", description=PARAMETERS["file"].description + more)
    if samples:
        form |= describe("sample", enum=list(samples), default=next(iter(samples)))
    return form


def _describe_options(classes: int) -> dict[str, Any]:
    top = describe("top", maximum=classes, default=min(DEFAULT_TOP, classes))
    return top | describe("preprocess")
