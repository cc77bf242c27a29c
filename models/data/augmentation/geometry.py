"""Geometric changes: shift, flip, rotate, warp and cover images."""

import numpy as np
import numpy.typing as npt

from models.data.augmentation.types import Batch, Each


def shift(images: Batch, pixels: float, random: np.random.Generator) -> Batch:
    """Move each image by up to `pixels` whole pixels in each direction. The border is reflected."""
    reach = int(pixels)
    n, (height, width) = len(images), images.shape[1:3]
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
    top = random.integers(0, 2 * reach + 1, n)
    left = random.integers(0, 2 * reach + 1, n)
    moved = np.empty_like(images)
    # Slices, because indexing with an array for each pixel takes five times as long.
    for image, source, y, x in zip(moved, padded, top, left, strict=True):
        image[:] = source[y : y + height, x : x + width]
    return moved


def flip(images: Batch, share: float, random: np.random.Generator) -> Batch:
    """Mirror the share `share` (0..1) of the images horizontally."""
    mirrored = random.random(len(images)) < share
    images = images.copy()
    images[mirrored] = images[mirrored, :, ::-1]
    return images


def cutout(images: Batch, pixels: float, random: np.random.Generator) -> Batch:
    """Set a square with sides of `pixels` to 0 in each image. It may extend beyond the border.

    DeVries and Taylor, arXiv 1708.04552.
    """
    n, (height, width) = len(images), images.shape[1:3]
    centre_y, centre_x = random.integers(0, height, n), random.integers(0, width, n)
    down = np.arange(height)[None, :] - centre_y[:, None]
    across = np.arange(width)[None, :] - centre_x[:, None]
    rows, columns = ((-pixels / 2 <= off) & (off < pixels / 2) for off in (down, across))
    blank = rows[:, :, None] & columns[:, None, :]
    return np.where(blank[..., None], np.float32(0), images)


def warp(images: Batch, strength: float, random: np.random.Generator) -> Batch:
    """Rotate, scale and slant each image about its centre.

    Strength 1 means a rotation by up to 15 degrees, scales from 0.85 to 1.15 on each axis and a
    slant of up to 0.15. Pixels are interpolated bilinearly, and 0 beyond the border.
    """
    n = len(images)
    angle = np.deg2rad(15 * strength) * random.uniform(-1, 1, n)
    scale_y = 1 + 0.15 * strength * random.uniform(-1, 1, n)
    scale_x = 1 + 0.15 * strength * random.uniform(-1, 1, n)
    slant = 0.15 * strength * random.uniform(-1, 1, n)
    return transformed(images, angle, scale_y, scale_x, slant)


def rotate(images: Batch, degrees: float, random: np.random.Generator) -> Batch:
    """Rotate each image about its centre by up to `degrees` in each direction, as `warp` does."""
    n = len(images)
    angle = np.deg2rad(degrees) * random.uniform(-1, 1, n)
    return transformed(images, angle, np.ones(n), np.ones(n), np.zeros(n))


def transformed(
    images: Batch,
    angle: Each,
    scale_y: Each,
    scale_x: Each,
    slant: Each,
    moved_y: Each | float = 0.0,
    moved_x: Each | float = 0.0,
) -> Batch:
    """Rotate by `angle` (radians), scale, slant and move (pixels) each image about its centre.

    All arguments but `images` have one value for each image, (N,). Pixels from beyond the border
    are 0.
    """
    height, width = images.shape[1:3]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    y = y[None] - (height - 1) / 2 - np.reshape(moved_y, (-1, 1, 1))
    x = x[None] - (width - 1) / 2 - np.reshape(moved_x, (-1, 1, 1))
    cos, sin = (f(angle)[:, None, None] for f in (np.cos, np.sin))
    source_x = (cos * x - sin * y) / scale_x[:, None, None] + slant[:, None, None] * y
    source_y = (sin * x + cos * y) / scale_y[:, None, None]
    return _bilinear(images, source_y + (height - 1) / 2, source_x + (width - 1) / 2)


def _bilinear(images: Batch, y: npt.NDArray[np.float64], x: npt.NDArray[np.float64]) -> Batch:
    """Sample the images at pixel coordinates y, x (N, height, width). Outside they are 0."""
    n, (height, width, channels) = len(images), images.shape[1:]
    wide = width + 2
    pixels = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0))).reshape(-1, channels)
    y, x = np.clip(y + 1, 0, height + 0.999), np.clip(x + 1, 0, width + 0.999)
    top, left = y.astype(np.intp), x.astype(np.intp)
    down = (y - top)[..., None].astype(np.float32)
    right = (x - left)[..., None].astype(np.float32)
    # One index for each pixel, because `take` is several times faster than three index arrays.
    place = (np.arange(n)[:, None, None] * (height + 2) + top) * wide + left
    upper = pixels.take(place, 0) * (1 - right) + pixels.take(place + 1, 0) * right
    lower = pixels.take(place + wide, 0) * (1 - right) + pixels.take(place + wide + 1, 0) * right
    sampled: Batch = (upper * (1 - down) + lower * down).astype(np.float32)
    return sampled
