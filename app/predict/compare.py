"""One image before every architecture of a data set: prepared once, and asked of each."""

import time
from typing import NotRequired, TypedDict

from app.catalogue.catalogue import Model
from app.images.upload import Upload
from app.predict.classify import Prediction, prediction_of, prepare_each, usable
from app.predict.inference import infer
from app.predict.recognition import recognise
from app.settings import Settings
from app.telemetry.record import note_answer


class Result(TypedDict):
    """What one model makes of the image."""

    architecture: str
    model: str
    rule: str
    version: int
    prediction: Prediction
    milliseconds: float  # that its inference took; three decimals
    test_accuracy: NotRequired[float]  # 0..1; absent before the model is published


class Comparison(TypedDict):
    """What a data set's models make of the same image."""

    dataset: str
    agree: bool  # all of them give the same label
    results: list[Result]


def compare(
    models: list[Model], upload: Upload, settings: Settings, *, top: int, raw: bool
) -> Comparison:
    """What each of `models`, all of one data set, sees in `upload`, in their order.

    Models that cannot be run are left out.

    `top` and `raw` are those of a classification; of a model with fewer classes than `top` all are
    listed. Raises RequestError where the image cannot be used.
    """
    models = [model for model in models if not model.problem] or models
    targets = dict.fromkeys(model.card.input for model in models)  # mostly one
    pictures = {
        target: usable(*prepare_each([upload], target, settings, raw=raw)) for target in targets
    }
    results: list[Result] = []
    for model in models:
        card, picture = model.card, pictures[model.card.input]
        network = model.network  # opened, if need be, before the clock starts
        (seen,) = recognise(network, model.calibration, [picture])
        started = time.perf_counter()
        infer(network, seen.reading.pixels[None], model.calibration)
        seconds = time.perf_counter() - started
        note_answer(model, seen.outcome)
        result: Result = {
            "architecture": card.architecture,
            "model": card.name,
            "rule": card.rule,
            "version": card.version,
            "prediction": prediction_of(model, seen, upload, top),
            "milliseconds": round(1000 * seconds, 3),
        }
        if model.accuracy:
            result["test_accuracy"], _ = model.accuracy
        results.append(result)
    labels = {result["prediction"]["label"] for result in results}
    return {"dataset": models[0].card.dataset, "agree": len(labels) == 1, "results": results}
