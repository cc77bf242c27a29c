"""Changes of camera and light: brightness, contrast, shading, haze, noise and blur.

The strength is a maximum. The value of each image is drawn uniformly up to it.
"""

import numpy as np

from models.data.augmentation.types import Batch, Each

BLUR_REACH = 4  # pixels on each side in the kernel of a blur


def brightness(images: Batch, most: float, random: np.random.Generator) -> Batch:
    """Add one value from -`most` to `most` (0..1) to all pixels of an image."""
    return _clipped(images + _each(random.uniform(-most, most, len(images))))


def contrast(images: Batch, most: float, random: np.random.Generator) -> Batch:
    """Multiply each pixel's distance from the mean of its image by exp(-most) to exp(most)."""
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    factor = _each(np.exp(random.uniform(-most, most, len(images))))
    return _clipped(mean + factor * (images - mean))


def shade(images: Batch, most: float, random: np.random.Generator) -> Batch:
    """Darken each image towards one side, by up to the share `most` (0..1) at the far corner."""
    depth = _each(random.uniform(0, most, len(images)))
    shaded: Batch = images * (1 - depth * _ramps(images, random))
    return shaded


def haze(images: Batch, most: float, random: np.random.Generator) -> Batch:
    """Blend each image with one grey, by up to the share `most` (0..1) at the far corner."""
    n = len(images)
    light = _each(random.uniform(0, 1, n))
    share = _ramps(images, random) * _each(random.uniform(0, most, n))
    return images + share * (light - images)


def noise(images: Batch, most: float, random: np.random.Generator) -> Batch:
    """Add Gaussian noise with a standard deviation of up to `most` (0..1) to each pixel."""
    deviation = _each(random.uniform(0, most, len(images)))
    return _clipped(images + deviation * random.standard_normal(images.shape, np.float32))


def blur(images: Batch, most: float, random: np.random.Generator) -> Batch:
    """Blur each image by a Gaussian with a standard deviation of up to `most` pixels."""
    return gaussian_blur(images, random.uniform(0, most, len(images)))


def gaussian_blur(images: Batch, deviations: Each) -> Batch:
    """Blur each image by a Gaussian with its own standard deviation, up to about 2 pixels."""
    offsets = np.arange(-BLUR_REACH, BLUR_REACH + 1)
    spread = np.maximum(deviations, 1e-3)[:, None]
    kernels = np.exp(-(offsets**2) / (2 * spread**2))
    kernels = (kernels / kernels.sum(axis=1, keepdims=True)).astype(np.float32)
    for axis in (1, 2):
        reach = [(BLUR_REACH, BLUR_REACH) if place == axis else (0, 0) for place in range(4)]
        padded = np.pad(images, reach, mode="edge")
        size = images.shape[axis]
        images = np.sum(
            [
                kernels[:, start, None, None, None]
                * np.take(padded, range(start, start + size), axis=axis)
                for start in range(len(offsets))
            ],
            axis=0,
        )
    return images


def _ramps(images: Batch, random: np.random.Generator) -> Batch:
    """Return ramps (N, height, width, 1) from 0 to 1, each in a random direction."""
    height, width = images.shape[1:3]
    angle = _each(random.uniform(0, 2 * np.pi, len(images)))
    y = np.linspace(-1, 1, height, dtype=np.float32)[None, :, None, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, None, :, None]
    ramps = 0.5 + (np.sin(angle) * y + np.cos(angle) * x) / 2**1.5
    return np.asarray(ramps, np.float32)


def _each(values: Each) -> Batch:
    """Return one value for each image, in a shape that broadcasts over its pixels."""
    return values.astype(np.float32)[:, None, None, None]


def _clipped(images: Batch) -> Batch:
    return np.clip(images, 0, 1).astype(np.float32)
