"""The arithmetic of calibrated outputs: probabilities, energy scores and contrast.

Training and the service share this module. It needs numpy alone.

    probabilities = softmax(z / T)                   T: temperature (Guo et al., ICML 2017)
    energy score  = T * log(sum(exp(z / T)))         at its own T (Liu et al., NeurIPS 2020)

z are the outputs of the network: logits, or reward estimates after reward learning. The largest
output of a row is subtracted before `exp`, so that no finite output overflows.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def probabilities_and_energy(
    outputs: npt.NDArray[Any], temperature: float, energy_temperature: float
) -> tuple[Array, Array]:
    """Return probabilities (N, classes) and energy scores (N,) of outputs (N, classes), in float64.

    Both temperatures are above 0. This is what a request needs, in as few operations as possible.
    """
    if len(outputs) == 1:  # most requests
        return _of_one_image(outputs[0].tolist(), temperature, energy_temperature)
    weights, total, largest = _exponentials(outputs.astype(np.float64), temperature)
    partition = total
    if energy_temperature != temperature:
        _, partition, _ = _exponentials(outputs.astype(np.float64), energy_temperature)
    return weights / total, (energy_temperature * np.log(partition) + largest)[:, 0]


def _of_one_image(
    row: list[float], temperature: float, energy_temperature: float
) -> tuple[Array, Array]:
    """Return the same for one image. With so few numbers, Python is faster than numpy."""
    largest = max(row)
    weights = [math.exp((output - largest) / temperature) for output in row]
    total = partition = sum(weights)
    if energy_temperature != temperature:
        partition = sum([math.exp((output - largest) / energy_temperature) for output in row])
    energy = energy_temperature * math.log(partition) + largest
    return np.array([[weight / total for weight in weights]]), np.array([energy])


def softmax(outputs: npt.NDArray[Any], temperature: float = 1.0) -> npt.NDArray[Any]:
    """Return probabilities (N, classes) of outputs (N, classes), in their dtype."""
    weights, total, _ = _exponentials(outputs, temperature)
    probabilities: npt.NDArray[Any] = weights / total
    return probabilities


def energy_scores(outputs: npt.NDArray[Any], temperature: float) -> Array:
    """Return the energy scores (N,) of outputs (N, classes), computed in float64."""
    _, total, largest = _exponentials(outputs.astype(np.float64), temperature)
    scores: Array = (temperature * np.log(total) + largest)[:, 0]
    return scores


def _exponentials(
    outputs: npt.NDArray[Any], temperature: float
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return exp((z - largest) / T) (N, classes), its sum and the largest output (N, 1)."""
    largest = np.maximum.reduce(outputs, axis=1, keepdims=True)
    weights = np.exp((outputs - largest) / temperature)
    return weights, np.add.reduce(weights, axis=1, keepdims=True), largest


def contrasts(images: npt.NDArray[np.float32]) -> Array:
    """Return the contrast (N,) of each image, in the unit of the pixels. A blank image has 0.

    Contrast is the deviation of the pixels from the mean of their channel: the root mean square
    over all pixels and channels of images (N, height, width, channels). A network also answers an
    image that shows nothing, and its output cannot tell. So the service compares the contrast with
    the smallest one of the validation images.
    """
    n, height, width, channels = images.shape
    exact = images.astype(np.float64).reshape(n, height * width, channels)
    flat = exact.reshape(n, -1)
    squares = np.einsum("ni,ni->n", flat, flat) / (height * width)
    # A matrix product is faster here: a sum over pixels would add only a few channels at a time.
    means = (np.ones((1, height * width)) @ exact)[:, 0] / (height * width)
    variances = (squares - np.einsum("nc,nc->n", means, means)) / channels
    spread: Array = np.sqrt(np.maximum(variances, 0))  # rounding may leave a little less than 0
    return spread
