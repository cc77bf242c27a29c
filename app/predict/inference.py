"""The `infer` stage: from arrays to probabilities, with ONNX Runtime."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.catalogue.catalogue import Model
from app.catalogue.network import BATCH, Network
from app.errors import RequestError
from app.telemetry.record import Inference, note_inference, timed
from models.calibration import contrasts, probabilities_and_energy
from models.cards import Calibration


class Outcome(NamedTuple):
    """A network's outputs for N images with C classes, interpreted."""

    probabilities: NDArray[np.float64]  # (N, C), calibrated, each row sums to 1
    energy: NDArray[np.float64]  # (N,), the energy score; familiar images have a high one
    in_distribution: NDArray[np.bool_] | None  # (N,); None if the model is not calibrated

    def of(self, rows: slice) -> "Outcome":
        """Return the outcome of the images in `rows` only."""
        known = self.in_distribution
        return Outcome(
            self.probabilities[rows], self.energy[rows], None if known is None else known[rows]
        )

    def is_familiar(self, row: int) -> bool | None:
        """Return whether an image is like the training data. None if this is not known."""
        return None if self.in_distribution is None else bool(self.in_distribution[row])


def join(outcomes: list[Outcome]) -> Outcome:
    """Return one outcome for the images of all `outcomes` of a model, of which there are some."""
    if len(outcomes) == 1:
        return outcomes[0]
    known = [one.in_distribution for one in outcomes if one.in_distribution is not None]
    return Outcome(
        np.concatenate([one.probabilities for one in outcomes]),
        np.concatenate([one.energy for one in outcomes]),
        np.concatenate(known) if known else None,
    )


@timed("infer")
def infer(
    network: Network, pixels: NDArray[np.float32], calibration: Calibration | None
) -> Outcome:
    """Run the network on `pixels`, float32 (N, height, width, channels) in 0..1.

    An image with less contrast than every training image, such as a blank one, is not in the
    distribution, whatever the network answers. Without a calibration, this is not known. Raises
    RequestError 422 if the network answers NaN or infinity.
    """
    if len(pixels) <= BATCH:
        outcome = interpret(network(pixels), calibration)
    else:
        parts = [network(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
        outcome = interpret(np.concatenate(parts), calibration)
    check_numbers(outcome.energy)
    if calibration is None or outcome.in_distribution is None:
        return outcome
    if len(pixels) == 1 and _shows_much(pixels[0], calibration.least_contrast):
        return outcome
    shows = contrasts(pixels) >= calibration.least_contrast
    return outcome._replace(in_distribution=outcome.in_distribution & shows)


def check_numbers(found: NDArray[np.float64]) -> None:
    """Raise RequestError 422 if a network's results are not all finite numbers."""
    if not all(map(math.isfinite, found.ravel().tolist())):  # numpy takes longer for one number
        raise RequestError(
            422,
            "no_number",
            "The network computes no number (NaN or infinity) for this image. Send another image, "
            "or ask another model.",
        )


def _shows_much(image: NDArray[np.float32], least: float) -> bool:
    """Return whether the contrast of one image (height, width, channels) is far above `least`.

    This takes two calls of numpy and decides for most images; `contrasts` decides for the others.
    Each channel's squares about its mean add up to at least half of the squares of the differences
    between the image's halves.
    """
    half = len(image) // 2
    apart = image[:half] - image[-half:]
    return float(np.vdot(apart, apart)) / 2 > 1.21 * least * least * image.size


def interpret(logits: NDArray[np.float32], calibration: Calibration | None) -> Outcome:
    """Return calibrated probabilities and energy for `logits` (N, C).

    Without a calibration, the probabilities are the network's own.
    """
    if calibration is None:
        return Outcome(*probabilities_and_energy(logits, 1.0, 1.0), None)
    probabilities, energy = probabilities_and_energy(
        logits, calibration.temperature, calibration.energy_temperature
    )
    return Outcome(probabilities, energy, energy >= calibration.energy_threshold)


def record_outcome(model: Model, outcome: Outcome) -> None:
    """Add the outcome of `model` to the record of the current request."""
    labels, known = model.card.labels, outcome.in_distribution
    rows = outcome.probabilities.tolist()
    confidences = [max(row) for row in rows]
    note_inference(
        Inference(
            model.card.name,
            model.card.version,
            [labels[row.index(most)] for row, most in zip(rows, confidences, strict=True)],
            confidences,
            0 if known is None else known.tolist().count(False),
        )
    )


def most_probable(probabilities: list[float], count: int) -> list[int]:
    """Return the indices of the `count` most probable classes of one image, the best first.

    Of equally probable classes the lower index comes first.
    """
    classes = range(len(probabilities))
    return sorted(classes, key=probabilities.__getitem__, reverse=True)[:count]
