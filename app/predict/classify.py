"""One classification, from uploaded bytes to the answer: decode, prepare, infer, answer."""

import time
from collections.abc import Iterator
from itertools import islice
from typing import Any, NotRequired, TypedDict

import numpy as np

from app.catalogue.catalogue import Model
from app.catalogue.network import BATCH
from app.errors import RequestError
from app.images import sandbox
from app.images.decode import prepare
from app.images.png import png_text
from app.images.readings import Prepared
from app.images.upload import Upload, describe, place
from app.predict.inference import infer, join, most_probable
from app.predict.recognition import Seen, recognise
from app.settings import Settings
from app.telemetry.record import note_answer
from models.cards import ImageInput


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
    """What one image shows."""

    label: str
    probability: float
    top: list[Candidate]  # the most probable first
    in_distribution: bool  # False: unlike everything that the model was trained on
    preprocessing: list[str]  # what was done to the image, in order
    warnings: NotRequired[list[str]]  # what makes the answer doubtful
    digits: NotRequired[Digits]
    filename: NotRequired[str]
    prepared: NotRequired[str]  # PNG in base64: the image that the network saw


class Failure(TypedDict):
    """Why one image has no prediction."""

    error: dict[str, Any]  # as the answer to a request that holds this image alone
    filename: NotRequired[str]


class Answer(TypedDict):
    """What a model says about the images of one request, in their order."""

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
) -> Answer:
    """What `model` sees in each of `uploads`, with the `top` most probable classes of each.

    `raw` leaves out the preparation that fits an image to the training data, `prepared` answers
    with the image that the network saw as well, `several` with the digits that stand side by side.
    Raises RequestError for the first image that cannot be used, its details say which one that
    is; with `partial` the error stands in that image's place.
    """
    recognise_them = recognise_usable if partial else recognise_each
    found = recognise_them(model, uploads, settings, raw=raw)
    if outcomes := [one.outcome for one in found if isinstance(one, Seen)]:
        note_answer(model, join(outcomes))
    predictions: list[Prediction | Failure] = []
    for upload, seen in zip(uploads, found, strict=True):
        if isinstance(seen, RequestError):
            predictions.append(_failure(seen, upload))
            continue
        prediction = prediction_of(model, seen, upload, top)
        if prepared:
            prediction["prepared"] = png_text(seen.reading.pixels)
        if several:
            prediction["digits"] = _read_digits(model, seen)
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
    """What `model` makes of each of `uploads`.

    Raises RequestError for the first image that cannot be used.
    """
    pictures = map(usable, prepare_each(uploads, model.card.input, settings, raw=raw))
    return [one for one in _in_batches(model, pictures) if isinstance(one, Seen)]


def recognise_usable(
    model: Model, uploads: list[Upload], settings: Settings, *, raw: bool
) -> list[Seen | RequestError]:
    """What `model` makes of each of `uploads`, or why that one cannot be used."""
    pictures = prepare_each(uploads, model.card.input, settings, raw=raw)
    return list(_in_batches(model, pictures))


def _in_batches(
    model: Model, pictures: Iterator[Prepared | RequestError]
) -> Iterator[Seen | RequestError]:
    """Each of `pictures` as `model` sees it; errors stay where they are.

    So many are prepared at a time as a network is given at once, and a request holds no more.
    """
    while some := list(islice(pictures, BATCH)):
        good = [one for one in some if isinstance(one, Prepared)]
        seen = iter(recognise(model.network, model.card.calibration, good) if good else [])
        for one in some:
            yield next(seen) if isinstance(one, Prepared) else one


def prepare_each(
    uploads: list[Upload], target: ImageInput, settings: Settings, *, raw: bool
) -> Iterator[Prepared | RequestError]:
    """Each of `uploads`, decoded and prepared when it is asked for, or why it cannot be used.

    All of them together have `settings.max_work` seconds of processor time for that, and
    `settings.max_seconds` on the clock.
    """
    work, wall = float(settings.max_work), settings.max_seconds
    for index, upload in enumerate(uploads):
        began, work_before = time.monotonic(), sandbox.work_done()
        limits = sandbox.Limits(settings.max_pixels, work, wall, settings.max_decode_mib)
        found = _prepare(upload, target, settings, limits, raw)
        work -= sandbox.work_done() - work_before
        wall -= time.monotonic() - began
        if isinstance(found, RequestError):
            found = _locate(found, index, upload, len(uploads))
        yield found


def _prepare(
    upload: Upload, target: ImageInput, settings: Settings, limits: sandbox.Limits, raw: bool
) -> Prepared | RequestError:
    """`upload`, prepared within what is left to the request, or why it cannot be used."""
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
    """`picture`, if it is none that cannot be used: that is raised."""
    if isinstance(picture, RequestError):
        raise picture.again()
    return picture


def _too_much_work(settings: Settings) -> RequestError:
    message = (
        f"The images before this one took the {settings.max_work} seconds of work that a request "
        "may cost. Send fewer at once, or smaller ones."
    )
    return RequestError(413, "too_much_work", message, limit=settings.max_work)


def _too_long(settings: Settings) -> RequestError:
    message = (
        f"The images before this one took the {settings.max_seconds:g} seconds on the clock that "
        "a request has for them. The server may be busy: try again, or send fewer at once."
    )
    return RequestError(413, "too_much_work", message, limit=settings.max_seconds)


def _locate(error: RequestError, index: int, upload: Upload, count: int) -> RequestError:
    """`error`, saying which image of the request it is about."""
    message = error.message if count == 1 else f"{describe(index, upload, count)}: {error.message}"
    return RequestError(
        error.status, error.code, message, **{**place(index, upload), **error.details}
    )


def prediction_of(model: Model, seen: Seen, upload: Upload, top: int) -> Prediction:
    """What `model` says about an image, with the `top` most probable classes."""
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
    """What makes an answer about `seen` doubtful."""
    return [f"several marks: {len(seen.marks)}"] if seen.marks else []


def _failure(error: RequestError, upload: Upload) -> Failure:
    failure: Failure = {"error": error.body()}
    if upload.filename:
        failure["filename"] = upload.filename
    return failure


def _read_digits(model: Model, seen: Seen) -> Digits:
    """The digits that stand side by side, or the only one."""
    outcome = seen.outcome
    if seen.marks:
        pixels = np.stack([mark.pixels for mark in seen.marks])
        outcome = infer(model.network, pixels, model.card.calibration)
    best = outcome.probabilities.argmax(axis=1)
    return {
        "text": "".join(model.card.labels[index] for index in best),
        "probabilities": [round(float(p), 6) for p in outcome.probabilities.max(axis=1)],
    }
