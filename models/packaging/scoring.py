"""Compute the figures on a card from logits: accuracy, confusion matrix and calibration."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from models.calibration import contrasts, energy_scores, softmax
from models.cards import Calibration, Scores
from models.data.datasets import Images, Labels, scaled

Logits = npt.NDArray[np.float32]  # (N, classes)

ECE_BINS = 15  # of the expected calibration error
IN_DISTRIBUTION_SHARE = 0.95  # of the validation images are at or above the energy threshold


def score(logits: Logits, labels: Labels) -> Scores:
    """Return accuracy with its 95 % interval, accuracy of each class and confusion matrix."""
    classes = logits.shape[1]
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (labels, logits.argmax(axis=1)), 1)
    correct = int(confusion.trace())
    per_class = confusion.diagonal() / np.maximum(confusion.sum(axis=1), 1)
    return Scores(
        images=len(labels),
        accuracy=correct / len(labels),
        interval=wilson_interval(correct, len(labels)),
        per_class=tuple(round(float(share), 6) for share in per_class),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def wilson_interval(correct: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson, J. Am. Stat. Assoc. 22:209, 1927)."""
    share, spread = correct / total, z * z / total
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return round(centre - half, 6), round(centre + half, 6)


def calibrate(
    logits: Logits, validation: tuple[Images, Labels], outputs: str = "logits"
) -> Calibration:
    """Fit temperature, energy threshold and least contrast on the validation split.

    `logits` are the outputs for the images of `validation`. `outputs` names their meaning.

    The temperature minimises the cross-entropy (Guo et al., ICML 2017). An image with an energy
    score below the threshold (Liu et al., NeurIPS 2020) counts as unlike the training data; 95 % of
    the validation images are at or above it. The score uses the temperature of the probabilities.
    At a temperature of 1, which suits logits, reward estimates in 0..1 would all have nearly the
    same weight.

    The energy score says nothing about a blank image, because training does not determine the
    output for it. So an image with less contrast than all n validation images also counts as unlike
    the data. For a further image of the same kind, the probability of this is 1 / (n + 1).
    """
    images, labels = validation
    temperature = round(_fit_temperature(logits.astype(np.float64), labels), 6)
    energies = energy_scores(logits, temperature)
    return Calibration(
        temperature=temperature,
        ece_before=round(expected_calibration_error(softmax(logits), labels), 6),
        ece_after=round(expected_calibration_error(softmax(logits, temperature), labels), 6),
        energy_threshold=float(np.quantile(energies, 1 - IN_DISTRIBUTION_SHARE)),
        energy_temperature=temperature,
        outputs=outputs,
        least_contrast=float(contrasts(scaled(images)).min()),
    )


def auroc(scores: npt.NDArray[Any], positive: npt.NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve (0..1): the probability that a positive scores higher.

    Equal scores count as one half. Raises ValueError unless there are positives and others.
    """
    positives = int(positive.sum())
    others = len(positive) - positives
    if not positives or not others:
        raise ValueError(f"auroc: expected positives and others, found {positives} and {others}")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[place]
    above = ranks[positive].sum() - positives * (positives + 1) / 2
    return float(above / (positives * others))


def expected_calibration_error(probabilities: npt.NDArray[Any], labels: Labels) -> float:
    """Return the mean of |accuracy - confidence| over ECE_BINS bins of confidence.

    Bins have equal width and are weighted by their number of images. `probabilities` is (N,
    classes).
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = np.bincount(bins, weights=correct - confidence, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def _fit_temperature(logits: npt.NDArray[np.float64], labels: Labels) -> float:
    """Return the temperature (0.005..20) of least cross-entropy, by golden section."""

    def cross_entropy(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)
        right = logits[np.arange(len(labels)), labels]
        return float((energy_scores(logits, temperature) - right).mean() / temperature)

    low, high = math.log(0.005), math.log(20.0)
    golden = (math.sqrt(5) - 1) / 2
    while high - low > 1e-5:
        left, right = high - golden * (high - low), low + golden * (high - low)
        if cross_entropy(left) < cross_entropy(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)
