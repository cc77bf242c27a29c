"""From logits to the figures on a card: accuracy, confusion, calibration, energy threshold."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from models.calibration import contrasts
from models.cards import Calibration, Scores
from models.data.datasets import Images, Labels, scaled
from models.data.storage import parts

Logits = npt.NDArray[np.float32]  # (N, classes)

ECE_BINS = 15
IN_DISTRIBUTION_SHARE = 0.95


def score(logits: Logits, labels: Labels) -> Scores:
    """Accuracy with its 95 % interval, per-class accuracy and the confusion matrix."""
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
    """The 95 % interval of a share (Wilson, J. Am. Stat. Assoc. 22:209, 1927)."""
    share, spread = correct / total, z * z / total
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return round(centre - half, 6), round(centre + half, 6)


def calibrate(
    logits: Logits, validation: tuple[Images, Labels], outputs: str = "logits"
) -> Calibration:
    """Temperature scaling (Guo et al., ICML 2017), the energy score's threshold, least contrast.

    An input whose energy score (Liu et al., NeurIPS 2020) is below the threshold is unlike the
    data: 95 % of these images are at or above it. `logits` are the answers to the `validation`
    split; `outputs` says what they are.

    The score is taken at the temperature of the probabilities. At 1, which suits logits, all
    classes' estimates of a reward in 0..1 would weigh nearly the same in it.

    Of a blank picture the score says nothing: what a network answers to it no training has shaped,
    and it may be anything. So one of less contrast than every one of n validation images is unlike
    the data too. That a further image of the same kind is, happens once in n + 1 times.
    """
    images, labels = validation
    temperature = round(_fit_temperature(logits.astype(np.float64), labels), 6)
    energies = energy_scores(logits, temperature)
    return Calibration(
        temperature=temperature,
        ece_before=round(expected_calibration_error(softmax(logits), labels), 6),
        ece_after=round(expected_calibration_error(softmax(logits / temperature), labels), 6),
        energy_threshold=float(np.quantile(energies, 1 - IN_DISTRIBUTION_SHARE)),
        energy_temperature=temperature,
        outputs=outputs,
        least_contrast=min(float(contrasts(scaled(part)).min()) for part in parts(images)),
    )


def auroc(scores: npt.NDArray[Any], positive: npt.NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve: the chance that a positive has the higher score.

    Of equal scores each counts a half. Raises ValueError unless there are positives and others.
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
    """Mean |accuracy - confidence| over equal-width bins of confidence, weighted by size."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = np.bincount(bins, weights=correct - confidence, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def softmax(logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Probabilities (N, classes) of logits (N, classes), in their dtype."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: npt.NDArray[Any] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def energy_scores(logits: npt.NDArray[Any], temperature: float) -> npt.NDArray[np.float64]:
    """T * logsumexp(logits / T) at the given temperature T, (N,), of logits (N, classes)."""
    scores: npt.NDArray[np.float64] = temperature * log_sum_exp(
        logits.astype(np.float64) / temperature
    )
    return scores


def log_sum_exp(logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """log(sum(exp(logits))) of each row of logits (N, classes), without overflow."""
    largest = logits.max(axis=1)
    score: npt.NDArray[Any] = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
    return score


def _fit_temperature(logits: npt.NDArray[np.float64], labels: Labels) -> float:
    """The temperature in 0.005..20 with the least cross-entropy, by golden section on its log."""

    def cross_entropy(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        return float((log_sum_exp(scaled) - scaled[np.arange(len(labels)), labels]).mean())

    low, high = math.log(0.005), math.log(20.0)
    golden = (math.sqrt(5) - 1) / 2
    while high - low > 1e-5:
        left, right = high - golden * (high - low), low + golden * (high - low)
        if cross_entropy(left) < cross_entropy(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)
