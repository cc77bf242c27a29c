"""One classification, from uploaded bytes to the answer: decode, prepare, infer, answer."""

from typing import NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from app import images, sandbox
from app.catalogue import Model
from app.errors import RequestError
from app.inference import Outcome, infer, most_probable
from app.prepared import png_text
from app.records import note_answer
from app.settings import Settings
from app.uploads import Upload, describe, place
from models.cards import ImageInput


class Candidate(TypedDict):
    """One class that an image may show."""

    label: str
    index: int
    probability: float  # 0..1, six decimals


class Prediction(TypedDict):
    """What one image shows."""

    label: str
    probability: float
    top: list[Candidate]  # the most probable first
    in_distribution: bool  # False: unlike everything that the model was trained on
    preprocessing: list[str]  # what was done to the image, in order
    filename: NotRequired[str]
    prepared: NotRequired[str]  # PNG in base64: the image that the network saw


class Answer(TypedDict):
    """What a model says about the images of one request, in their order."""

    model: str
    rule: str
    version: int
    predictions: list[Prediction]


def classify(
    model: Model,
    uploads: list[Upload],
    settings: Settings,
    *,
    top: int,
    raw: bool,
    prepared: bool = False,
) -> Answer:
    """What `model` sees in each of `uploads`, with the `top` most probable classes of each.

    `raw` leaves out the preparation that fits an image to the training data, `prepared` answers
    with the image that the network saw as well. Raises RequestError for the first image that
    cannot be used; its details say which one that is.
    """
    pixels, steps = decode_and_prepare(uploads, model.card.input, settings, raw=raw)
    outcome = infer(model.network, pixels, model.card.calibration)
    note_answer(model, outcome)
    predictions = [
        prediction_of(model, outcome, index, upload, steps[index], top)
        for index, upload in enumerate(uploads)
    ]
    if prepared:
        for prediction, seen in zip(predictions, pixels, strict=True):
            prediction["prepared"] = png_text(seen)
    card = model.card
    return {
        "model": card.name,
        "rule": card.rule,
        "version": card.version,
        "predictions": predictions,
    }


def decode_and_prepare(
    uploads: list[Upload], target: ImageInput, settings: Settings, *, raw: bool
) -> tuple[NDArray[np.float32], list[tuple[str, ...]]]:
    """A network's input (N, height, width, channels) in 0..1, and what was done to each image.

    One image is decoded at a time, so that a request holds the pixels of one. Raises RequestError
    for the first image that cannot be used.
    """
    steps = []
    limit = sandbox.work_done() + settings.max_work
    pixels = np.empty((len(uploads), target.height, target.width, target.channels), np.float32)
    for index, upload in enumerate(uploads):
        try:
            left = limit - sandbox.work_done()
            if left <= 0:
                raise _too_much_work(settings)
            limits = sandbox.Limits(
                settings.max_pixels, left, settings.max_seconds, settings.max_decode_mib
            )
            picture = sandbox.decode(upload.data, target, limits, raw=raw)
            prepared = images.prepare(picture, target, raw=raw)
        except RequestError as error:
            raise _locate(error, index, upload, len(uploads)) from error
        pixels[index] = prepared.pixels
        steps.append(prepared.steps)
    return pixels, steps


def _too_much_work(settings: Settings) -> RequestError:
    message = (
        f"The images before this one took the {settings.max_work} seconds of work that a request "
        "may cost. Send fewer at once, or smaller ones."
    )
    return RequestError(413, "too_much_work", message, limit=settings.max_work)


def _locate(error: RequestError, index: int, upload: Upload, count: int) -> RequestError:
    """`error`, saying which image of the request it is about."""
    message = error.message if count == 1 else f"{describe(index, upload, count)}: {error.message}"
    return RequestError(
        error.status, error.code, message, **{**place(index, upload), **error.details}
    )


def prediction_of(
    model: Model, outcome: Outcome, index: int, upload: Upload, steps: tuple[str, ...], top: int
) -> Prediction:
    """What `model` says about the image at `index` of those that `outcome` is of."""
    labels, probabilities = model.card.labels, outcome.probabilities[index]
    candidates: list[Candidate] = [
        {
            "label": labels[best],
            "index": int(best),
            "probability": round(float(probabilities[best]), 6),
        }
        for best in most_probable(probabilities, top)
    ]
    prediction: Prediction = {
        "label": candidates[0]["label"],
        "probability": candidates[0]["probability"],
        "top": candidates,
        "in_distribution": bool(outcome.in_distribution[index]),
        "preprocessing": list(steps),
    }
    if upload.filename:
        prediction["filename"] = upload.filename
    return prediction
