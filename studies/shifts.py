"""Other pictures than those a network was trained on: the shifts of the study of learning.

Each shift takes uint8 images (N, height, width, channels) and returns uint8 images of that shape.
The preparation of the service cannot undo any of them. The same images give the same result.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from models.data.augmentation.geometry import transformed
from models.data.augmentation.light import gaussian_blur
from models.data.datasets import scaled

Pixels = npt.NDArray[np.uint8]
Shift = Callable[[Pixels], Pixels]


def turned(degrees: float) -> Shift:
    """Return a shift that turns images about their centre."""
    return lambda images: _moved(images, angle=np.deg2rad(degrees))


def sheared(slant: float) -> Shift:
    """Return a shift that moves each row sideways by `slant` times its distance from the middle."""
    return lambda images: _moved(images, slant=slant)


def thickened(images: Pixels) -> Pixels:
    """Replace each pixel by the largest one of the 5 x 5 pixels around it: strokes get thicker."""
    return _around(images, 2, np.max)


def thinned(images: Pixels) -> Pixels:
    """Replace each pixel by the smallest one of the 2 x 2 pixels at it: strokes get thinner."""
    around = [np.roll(images, (y, x), (1, 2)) for y in (0, 1) for x in (0, 1)]
    thin: Pixels = np.min(around, axis=0)
    return thin


def noisy(deviation: float) -> Shift:
    """Return a shift that adds Gaussian noise of `deviation` (0..1, the range of a pixel)."""

    def shift(images: Pixels) -> Pixels:
        noise = np.random.default_rng(len(images)).standard_normal(images.shape, np.float32)
        return _bytes(scaled(images) + np.float32(deviation) * noise)

    return shift


def blurred(deviation: float) -> Shift:
    """Return a shift that blurs by a Gaussian of `deviation` pixels."""
    return lambda images: _bytes(gaussian_blur(scaled(images), np.full(len(images), deviation)))


def flattened(contrast: float) -> Shift:
    """Return a shift that keeps the share `contrast` of the difference from an image's mean."""

    def shift(images: Pixels) -> Pixels:
        values = scaled(images)
        mean = values.mean(axis=(1, 2, 3), keepdims=True)
        return _bytes(mean + np.float32(contrast) * (values - mean))

    return shift


SHIFTS: dict[str, Shift] = {
    "rotated 30": turned(30),
    "rotated 45": turned(45),
    "rotated 60": turned(60),
    "thick": thickened,
    "thin": thinned,
    "sheared": sheared(0.7),
    "noisy": noisy(0.5),
    "blurred": blurred(1.0),
    "flat": flattened(0.3),
}
# Constants are chosen on these alone, which no reported trial sees.
TUNING_SHIFTS: dict[str, Shift] = {
    "rotated -40": turned(-40),
    "thick 3x3, rotated 20": lambda images: turned(20)(_around(images, 1, np.max)),
}


def _around(images: Pixels, reach: int, choose: Callable[..., Pixels]) -> Pixels:
    steps = range(-reach, reach + 1)
    return choose([np.roll(images, (y, x), (1, 2)) for y in steps for x in steps], axis=0)


def _moved(images: Pixels, angle: float = 0.0, slant: float = 0.0) -> Pixels:
    ones = np.ones(len(images))
    return _bytes(transformed(scaled(images), angle * ones, ones, ones, slant * ones))


def _bytes(values: npt.NDArray[np.float32]) -> Pixels:
    found: Pixels = (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
    return found
