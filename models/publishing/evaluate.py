"""Measure published models again, in Keras, ONNX and 8-bit integers, against their cards."""

import time
from dataclasses import dataclass
from pathlib import Path

from models.calibration import softmax
from models.cards import Card, Scores
from models.data.datasets import load
from models.packaging.export import Agreement, agreement, keras_logits
from models.packaging.running import onnx_logits
from models.packaging.scoring import expected_calibration_error, score
from models.publishing.int8 import Int8Scores, measure_int8

ROUNDING = 0.001  # of the answers of an 8-bit file: not all processors round alike


@dataclass(frozen=True)
class Evaluation:
    """The results of a model now, beside its card."""

    card: Card
    split: str  # "test", or "validation" for a model that is not published
    scores: Scores
    calibration_error: float  # expected calibration error of the calibrated probabilities
    agreement: Agreement
    seconds: float
    int8: Int8Scores | None  # of `model.int8.onnx`, where there is one

    @property
    def claimed(self) -> Scores:
        """Return the scores on the card for the same split."""
        return self.card.test or self.card.need_validation()

    @property
    def float_holds(self) -> bool:
        """Return whether the scores are exactly those on the card and both model files agree."""
        return self.scores == self.claimed and not self.agreement.different_answers

    @property
    def int8_claimed(self) -> float:
        """The card's accuracy of `model.int8.onnx` for the same split."""
        claimed = self.card.int8
        assert claimed is not None
        tested = claimed.test_accuracy
        return claimed.validation_accuracy if tested is None else tested

    @property
    def int8_holds(self) -> bool:
        """Whether the card is right about `model.int8.onnx`, but for ROUNDING."""
        if self.int8 is None or self.card.int8 is None:
            return True
        differences = (
            self.int8.accuracy - self.int8_claimed,
            self.int8.changed - self.card.int8.changed,
        )
        return max(map(abs, differences)) <= ROUNDING + 1e-9

    @property
    def holds(self) -> bool:
        return self.float_holds and self.int8_holds


def evaluate(folder: Path, card: Card) -> Evaluation:
    """Classify the test set with all model files. Before publication: the validation split.

    Raises DataError if the data is missing, and CardError for an imported model.
    """
    started = time.monotonic()
    share = card.need_training().recipe["validation"]
    temperature = card.need_calibration().temperature
    arrays = load(card.dataset)
    images, labels = arrays.x_test, arrays.y_test
    if card.test is None:
        _, (images, labels) = arrays.split(share)
    logits, answers = keras_logits(folder, images), onnx_logits(folder, images)
    int8 = None
    if card.int8 is not None:
        fitted = card.int8.calibration
        int8 = measure_int8(folder, fitted.temperature, (images, labels), answers)
    calibrated = softmax(logits, temperature)
    return Evaluation(
        card=card,
        split="validation" if card.test is None else "test",
        scores=score(logits, labels),
        calibration_error=expected_calibration_error(calibrated, labels),
        agreement=agreement(logits, answers, temperature),
        seconds=time.monotonic() - started,
        int8=int8,
    )
