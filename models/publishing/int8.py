"""A model's 8-bit file: made, calibrated, measured, and kept where it is as good as the other."""

import dataclasses
from pathlib import Path

from models.calibration import softmax
from models.cards import INT8_MODEL, Card, Int8, checksums
from models.data.datasets import Arrays, Images, Labels, scaled
from models.packaging.quantise import calibration_images, quantise
from models.packaging.running import onnx_logits
from models.packaging.scoring import Logits, calibrate, expected_calibration_error, score

LARGE = 10_000_000  # multiply-adds of one image: below, the rest of a request costs more
MOST_CHANGE = 0.001  # of the test accuracy


@dataclasses.dataclass(frozen=True)
class Int8Scores:
    """What `model.int8.onnx` reaches on one split."""

    images: int
    accuracy: float
    interval: tuple[float, float]
    calibration_error: float  # expected calibration error of the calibrated probabilities
    changed: float  # share of the images that `model.onnx` answers otherwise


def add_int8(folder: Path, card: Card, arrays: Arrays) -> tuple[Card, Int8]:
    """Write `model.int8.onnx` into `folder`; return the card for it, and what the file reaches.

    Its ranges come from training images, its calibration from the validation split. The file of
    a published model is measured on the test set, too, and is kept, and in the card, only where
    the accuracy there changes by at most 0.1 points.
    """
    share = card.need_training().recipe["validation"]
    (training, _), validation = arrays.split(share)
    quantise(folder, scaled(calibration_images(training)))
    logits = onnx_logits(folder, validation[0], INT8_MODEL)
    fitted = calibrate(logits, validation, card.need_calibration().outputs)
    reached = score(logits, validation[1]).accuracy
    if card.test is None:
        changed = _changed(logits, onnx_logits(folder, validation[0]))
        found = Int8(fitted, reached, None, None, changed)
        kept = True
    else:
        answers = onnx_logits(folder, arrays.x_test)
        tested = measure_int8(folder, fitted.temperature, (arrays.x_test, arrays.y_test), answers)
        found = Int8(fitted, reached, tested.accuracy, tested.interval, tested.changed)
        kept = abs(tested.accuracy - card.test.accuracy) <= MOST_CHANGE + 1e-9
    if not kept:
        (folder / INT8_MODEL).unlink()
    card = dataclasses.replace(card, int8=found if kept else None, files=checksums(folder))
    return card, found


def measure_int8(
    folder: Path, temperature: float, split: tuple[Images, Labels], answers: Logits
) -> Int8Scores:
    """Classify a split of the data with the 8-bit file in `folder`.

    `answers` (N, classes) are the outputs of `model.onnx` for the same images.
    """
    images, labels = split
    logits = onnx_logits(folder, images, INT8_MODEL)
    scores = score(logits, labels)
    return Int8Scores(
        images=len(images),
        accuracy=scores.accuracy,
        interval=scores.interval,
        calibration_error=expected_calibration_error(softmax(logits, temperature), labels),
        changed=_changed(logits, answers),
    )


def _changed(answers: Logits, others: Logits) -> float:
    return float((answers.argmax(axis=1) != others.argmax(axis=1)).mean())
