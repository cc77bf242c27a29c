"""The comparison of one image by all architectures of a data set."""

import time
from typing import NotRequired, TypedDict

from app.catalogue.catalogue import Model
from app.images.upload import Upload
from app.predict.classify import Prediction, prediction_of, prepare_each, usable
from app.predict.inference import infer, record_outcome
from app.predict.recognition import recognise
from app.settings import Settings


class ComparisonRow(TypedDict):
    """The answer of one model about the image."""

    architecture: str
    model: str
    rule: str
    version: int
    prediction: Prediction
    milliseconds: float  # the time of its inference; three decimals
    test_accuracy: NotRequired[float]  # 0..1; absent until the model is published


class Comparison(TypedDict):
    """The answers of a data set's models about the same image."""

    dataset: str
    agree: bool  # whether all models give the same label
    results: list[ComparisonRow]


def compare(
    models: list[Model], upload: Upload, settings: Settings, *, top: int, raw: bool
) -> Comparison:
    """Return the prediction of each of `models`, all of one data set, for `upload`, in their order.

    Models that cannot be run are left out. `top` and `raw` are those of a classification; a model
    with fewer classes than `top` lists all of them. Raises RequestError if the image cannot be
    used.
    """
    # If no model can be run, the first one raises its error below.
    models = [model for model in models if not model.problem] or models
    targets = dict.fromkeys(model.card.input for model in models)  # usually one
    pictures = {
        target: usable(*prepare_each([upload], target, settings, raw=raw)) for target in targets
    }
    results: list[ComparisonRow] = []
    for model in models:
        card, picture = model.card, pictures[model.card.input]
        network = model.network  # opened before the time is measured
        (seen,) = recognise(network, card.calibration, [picture])
        # A second run of the network, since the first one may be a batch of several readings.
        started = time.perf_counter()
        infer(network, seen.reading.pixels[None], card.calibration)
        seconds = time.perf_counter() - started
        record_outcome(model, seen.outcome)
        result: ComparisonRow = {
            "architecture": card.architecture,
            "model": card.name,
            "rule": card.rule,
            "version": card.version,
            "prediction": prediction_of(model, seen, upload, top),
            "milliseconds": round(1000 * seconds, 3),
        }
        if card.test:
            result["test_accuracy"] = card.test.accuracy
        results.append(result)
    labels = {result["prediction"]["label"] for result in results}
    return {"dataset": models[0].card.dataset, "agree": len(labels) == 1, "results": results}
