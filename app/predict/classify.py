"""One classification, from uploaded bytes to the answer: decode, prepare, infer, answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import numpy as np

from app.catalogue.catalogue import Model
from app.catalogue.network import BATCH
from app.errors import RequestError
from app.images import sandbox
from app.images.decode import prepare
from app.images.png import png_text
from app.images.readings import Prepared
from app.images.upload import Upload, locate
from app.predict.inference import Outcome, infer, join, most_probable, record_outcome
from app.predict.recognition import Seen, recognise, recognise_with_both
from app.settings import Settings
from models.cards import ImageInput

if TYPE_CHECKING:  # it brings SQLAlchemy along, which is needed only if votes are asked for
    from app.feedback.feedback import Keeper


class Candidate(TypedDict):
    """One class that an image may show."""

    label: str
    index: int
    probability: float  # 0..1, six decimals


class Digits(TypedDict):
    """The digits of one image, from left to right."""

    text: str
    probabilities: list[float]  # of each digit, 0..1, six decimals


class Prediction(TypedDict):
    """The prediction for one image."""

    label: str
    probability: float
    top: list[Candidate]  # the most probable first
    in_distribution: bool  # False if the image is unlike all the training data
    preprocessing: list[str]  # what was done to the image, in order
    warnings: NotRequired[list[str]]  # reasons to doubt the answer
    digits: NotRequired[Digits]
    filename: NotRequired[str]
    prepared: NotRequired[str]  # PNG in base64: the image that the network received
    version: NotRequired[int]  # of the challenger, if it answered about this image
    prediction_id: NotRequired[str]  # for a vote: see app/feedback/tokens.py


class Failure(TypedDict):
    """The reason why one image has no prediction."""

    error: dict[str, Any]  # the JSON of a RequestError
    filename: NotRequired[str]


class Classification(TypedDict):
    """A model's predictions for the images of one request, in their order."""

    model: str
    rule: str
    version: int
    predictions: list[Prediction | Failure]


def classify(
    model: Model,
    uploads: list[Upload],
    settings: Settings,
    *,
    top: int,
    raw: bool,
    prepared: bool = False,
    partial: bool = False,
    several: bool = False,
    keeper: Keeper | None = None,
) -> Classification:
    """Return the prediction of `model` for each of `uploads`, with the `top` most probable classes.

    `raw` skips the preparation that fits an image to the training data. `prepared` adds the image
    that the network received, and `several` the digits that stand side by side. Raises RequestError
    for the first image that cannot be used, with its index in the details. With `partial`, the
    error is in that image's place instead. A `keeper` keeps the predictions for votes; if it has a
    challenger, that one may answer about some of the images.
    """
    pictures = prepare_each(uploads, model.card.input, settings, raw=raw)
    if not partial:
        pictures = map(usable, pictures)
    found = list(_in_batches(model, pictures, keeper))
    _record(model, [one for one in found if isinstance(one, Seen)])
    predictions: list[Prediction | Failure] = []
    for index, (upload, seen) in enumerate(zip(uploads, found, strict=True)):
        if isinstance(seen, RequestError):
            predictions.append(_failure(seen, upload))
            continue
        answering = seen.model or model
        prediction = prediction_of(answering, seen, upload, top)
        if prepared:
            prediction["prepared"] = png_text(seen.reading.pixels)
        if several:
            prediction["digits"] = _read_digits(answering, seen)
        if answering is not model:
            prediction["version"] = answering.card.version
        if keeper:
            _keep(keeper, index, answering, seen, prediction)
        predictions.append(prediction)
    card = model.card
    return {
        "model": card.name,
        "rule": card.rule,
        "version": card.version,
        "predictions": predictions,
    }


def recognise_each(
    model: Model, uploads: list[Upload], settings: Settings, *, raw: bool
) -> list[Seen]:
    """Return each of `uploads` as `model` saw it.

    Raises RequestError for the first image that cannot be used.
    """
    pictures = map(usable, prepare_each(uploads, model.card.input, settings, raw=raw))
    return [one for one in _in_batches(model, pictures) if isinstance(one, Seen)]


def _record(model: Model, found: list[Seen]) -> None:
    """Record the outcomes for the metrics, those of `model` and those of its challenger."""
    outcomes: dict[Model, list[Outcome]] = {}
    for one in found:
        outcomes.setdefault(one.model or model, []).append(one.outcome)
    for answering, some in outcomes.items():
        record_outcome(answering, join(some))


def _keep(keeper: Keeper, index: int, model: Model, seen: Seen, prediction: Prediction) -> None:
    """Keep the prediction for a vote, and give it an id if there is room."""
    answer = prediction["top"][0]["index"]
    kept = keeper.keep(index, model, seen.reading.pixels, answer, seen.answers)
    if kept:
        prediction["prediction_id"] = kept


def _in_batches(
    model: Model, pictures: Iterator[Prepared | RequestError], keeper: Keeper | None = None
) -> Iterator[Seen | RequestError]:
    """Yield each of `pictures` as `model` sees it. Errors keep their place.

    Pictures are prepared in batches of the size that a network takes at once, so that a request
    holds no more of them in memory.
    """
    while some := list(islice(pictures, BATCH)):
        good = [one for one in some if isinstance(one, Prepared)]
        if keeper and keeper.challenger and good:
            both = recognise_with_both(model, keeper.challenger, keeper.draws_challenger, good)
            seen = iter(both)
        else:
            seen = iter(recognise(model.network, model.calibration, good) if good else [])
        for one in some:
            yield next(seen) if isinstance(one, Prepared) else one


def prepare_each(
    uploads: list[Upload], target: ImageInput, settings: Settings, *, raw: bool
) -> Iterator[Prepared | RequestError]:
    """Yield each of `uploads`, prepared, or the error of one that cannot be used.

    Each is decoded when it is asked for. All of them together have `settings.max_work` seconds of
    processor time, and `settings.max_seconds` on the clock.
    """
    work, wall = float(settings.max_work), settings.max_seconds
    for index, upload in enumerate(uploads):
        began, work_before = time.monotonic(), sandbox.work_done()
        limits = sandbox.Limits(settings.max_pixels, work, wall, settings.max_decode_mib)
        found = _prepare(upload, target, settings, limits, raw)
        work -= sandbox.work_done() - work_before
        wall -= time.monotonic() - began
        if isinstance(found, RequestError):
            found = locate(found, index, upload, len(uploads))
        yield found


def _prepare(
    upload: Upload, target: ImageInput, settings: Settings, limits: sandbox.Limits, raw: bool
) -> Prepared | RequestError:
    """Return `upload` prepared within the limits that are left to the request, or its error."""
    if limits.seconds <= 0:
        return _too_much_work(settings)
    if limits.wall <= 0:
        return _too_long(settings)
    if upload.problem:
        return upload.problem
    if not upload.data:
        return RequestError(400, "empty_file", "The file is empty: it has no bytes.")
    try:
        picture = sandbox.decode(upload.data, target, limits, raw=raw)
        return prepare(picture, target, raw=raw)
    except RequestError as error:
        return error.again()


def usable(picture: Prepared | RequestError) -> Prepared:
    """Return `picture`. Raises it if it is an error."""
    if isinstance(picture, RequestError):
        raise picture.again()
    return picture


def _too_much_work(settings: Settings) -> RequestError:
    """Return the refusal of an image after the request's processor time is used up."""
    message = (
        f"The images before this one took the {settings.max_work} seconds of processor time that a "
        "request may take. Send fewer or smaller images."
    )
    return RequestError(413, "too_much_work", message, limit=settings.max_work)


def _too_long(settings: Settings) -> RequestError:
    """Return the refusal of an image after the request's time on the clock is used up."""
    message = (
        f"The images before this one took the {settings.max_seconds:g} seconds on the clock that "
        "a request has. The server may be busy: try again, or send fewer images."
    )
    return RequestError(413, "too_much_work", message, limit=settings.max_seconds)


def prediction_of(model: Model, seen: Seen, upload: Upload, top: int) -> Prediction:
    """Return the prediction of `model` for an image, with the `top` most probable classes."""
    labels, probabilities = model.card.labels, seen.outcome.probabilities[0].tolist()
    candidates: list[Candidate] = [
        {"label": labels[best], "index": best, "probability": round(probabilities[best], 6)}
        for best in most_probable(probabilities, top)
    ]
    prediction: Prediction = {
        "label": candidates[0]["label"],
        "probability": candidates[0]["probability"],
        "top": candidates,
        "in_distribution": bool(seen.outcome.in_distribution[0]),
        "preprocessing": list(seen.reading.steps),
    }
    if warnings := warnings_of(seen):
        prediction["warnings"] = warnings
    if upload.filename:
        prediction["filename"] = upload.filename
    return prediction


def warnings_of(seen: Seen) -> list[str]:
    """Return the reasons to doubt an answer about `seen`."""
    return [f"several marks: {len(seen.marks)}"] if seen.marks else []


def _failure(error: RequestError, upload: Upload) -> Failure:
    failure: Failure = {"error": error.body()}
    if upload.filename:
        failure["filename"] = upload.filename
    return failure


def _read_digits(model: Model, seen: Seen) -> Digits:
    """Return the digits that stand side by side, or the only digit."""
    outcome = seen.outcome
    if seen.marks:
        pixels = np.stack([mark.pixels for mark in seen.marks])
        outcome = infer(model.network, pixels, model.calibration)
    best = outcome.probabilities.argmax(axis=1)
    return {
        "text": "".join(model.card.labels[index] for index in best),
        "probabilities": [round(float(p), 6) for p in outcome.probabilities.max(axis=1)],
    }
