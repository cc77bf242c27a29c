"""Measure published models again, in Keras and in ONNX, and compare with their cards."""

import time
from dataclasses import dataclass
from pathlib import Path

from models.calibration import softmax
from models.cards import Card, Scores
from models.data.datasets import load, split
from models.packaging.export import Agreement, agreement, keras_logits, onnx_logits
from models.packaging.scoring import expected_calibration_error, score


@dataclass(frozen=True)
class Evaluation:
    """The results of a model now, beside its card."""

    card: Card
    split: str  # "test", or "validation" for a model that is not published
    scores: Scores
    calibration_error: float  # expected calibration error of the calibrated probabilities
    agreement: Agreement
    seconds: float

    @property
    def claimed(self) -> Scores:
        """Return the scores on the card for the same split."""
        return self.card.test or self.card.validation

    @property
    def holds(self) -> bool:
        """Return whether the scores are exactly those on the card and both model files agree."""
        return self.scores == self.claimed and not self.agreement.different_answers


def evaluate(folder: Path, card: Card) -> Evaluation:
    """Classify the test set with both model files. Before publication: the validation split.

    Raises DataError if the data is missing.
    """
    started = time.monotonic()
    arrays = load(card.dataset)
    images, labels = arrays.x_test, arrays.y_test
    if card.test is None:
        _, (images, labels) = split(
            arrays.x_train, arrays.y_train, card.training.recipe["validation"]
        )
    logits = keras_logits(folder, images)
    calibrated = softmax(logits, card.calibration.temperature)
    return Evaluation(
        card=card,
        split="validation" if card.test is None else "test",
        scores=score(logits, labels),
        calibration_error=expected_calibration_error(calibrated, labels),
        agreement=agreement(logits, onnx_logits(folder, images), card.calibration.temperature),
        seconds=time.monotonic() - started,
    )
