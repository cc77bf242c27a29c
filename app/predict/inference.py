"""From arrays to probabilities: the `infer` stage, with ONNX Runtime."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from app.catalogue.network import BATCH, Network
from app.telemetry.record import timed
from models.calibration import contrasts
from models.cards import Calibration


@dataclass(frozen=True)
class Outcome:
    """What a network makes of N images of one of C classes each."""

    probabilities: NDArray[np.float64]  # (N, C), calibrated, each row sums to 1
    energy: NDArray[np.float64]  # (N,), the energy score: the higher, the more familiar
    in_distribution: NDArray[np.bool_]  # (N,)

    def of(self, rows: slice) -> "Outcome":
        """The outcome of the images in `rows` alone."""
        return Outcome(self.probabilities[rows], self.energy[rows], self.in_distribution[rows])


def join(outcomes: list[Outcome]) -> Outcome:
    """One outcome of the images of `outcomes`, of which there is at least one, in their order."""
    if len(outcomes) == 1:
        return outcomes[0]
    return Outcome(
        np.concatenate([one.probabilities for one in outcomes]),
        np.concatenate([one.energy for one in outcomes]),
        np.concatenate([one.in_distribution for one in outcomes]),
    )


@timed("infer")
def infer(network: Network, pixels: NDArray[np.float32], calibration: Calibration) -> Outcome:
    """Run the network on `pixels`, float32 (N, height, width, channels) in 0..1.

    What shows less than any training image, such as a blank one, is not in the distribution,
    whatever the network answers.
    """
    if len(pixels) <= BATCH:
        outcome = interpret(network(pixels), calibration)
    else:
        parts = [network(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
        outcome = interpret(np.concatenate(parts), calibration)
    if len(pixels) == 1 and _shows_much(pixels[0], calibration.least_contrast):
        return outcome
    shows = contrasts(pixels) >= calibration.least_contrast
    return replace(outcome, in_distribution=outcome.in_distribution & shows)


def _shows_much(image: NDArray[np.float32], least: float) -> bool:
    """Whether the contrast of one image (height, width, channels) is far above `least`.

    In two calls, for most requests; `contrasts` is for what is near. Each channel's squares about
    its mean add up to at least half of those of the differences between the image's halves.
    """
    half = len(image) // 2
    apart = image[:half] - image[-half:]
    return float(np.vdot(apart, apart)) / 2 > 1.21 * least * least * image.size


def interpret(logits: NDArray[np.float32], calibration: Calibration) -> Outcome:
    """Probabilities and energy from `logits` (N, C), without overflow at any finite size."""
    if len(logits) == 1:  # most requests
        return _interpret_one(logits[0].tolist(), calibration)
    exact = logits.astype(np.float64)
    most = np.maximum.reduce(exact, axis=1, keepdims=True)
    exact -= most
    temperature, scale = calibration.temperature, calibration.energy_temperature
    weights = np.exp(exact / temperature)
    total = np.add.reduce(weights, axis=1, keepdims=True)
    partition = total
    if scale != temperature:
        partition = np.add.reduce(np.exp(exact / scale), axis=1, keepdims=True)
    energy = (scale * np.log(partition) + most)[:, 0]
    return Outcome(weights / total, energy, energy >= calibration.energy_threshold)


def _interpret_one(row: list[float], calibration: Calibration) -> Outcome:
    """The same of one image's logits: with so few numbers Python is faster than numpy."""
    most = max(row)
    temperature, scale = calibration.temperature, calibration.energy_temperature
    weights = [math.exp((logit - most) / temperature) for logit in row]
    total = sum(weights)
    partition = total
    if scale != temperature:
        partition = sum([math.exp((logit - most) / scale) for logit in row])
    energy = scale * math.log(partition) + most
    return Outcome(
        np.array([[weight / total for weight in weights]]),
        np.array([energy]),
        np.array([energy >= calibration.energy_threshold]),
    )


def most_probable(probabilities: list[float], count: int) -> list[int]:
    """The indices of the `count` most probable classes of one image, best first.

    Of equally probable classes the lower index comes first.
    """
    classes = range(len(probabilities))
    return sorted(classes, key=probabilities.__getitem__, reverse=True)[:count]
