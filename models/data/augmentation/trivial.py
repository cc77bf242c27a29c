"""TrivialAugment: one uniformly random change for each image, with a uniformly random strength.

Mueller and Hutter, ICCV 2021 (arXiv 2103.10158). The method needs no search and no policy. The
changes and their ranges are those of its "wide" space, applied to arrays.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from models.data.augmentation.geometry import transformed
from models.data.augmentation.light import gaussian_blur
from models.data.augmentation.types import Batch, Each

GREY = np.array([0.299, 0.587, 0.114], np.float32)  # the weights of luma, ITU-R BT.601
_Values = npt.NDArray[np.float32]


def trivial(images: Batch, reach: float, random: np.random.Generator) -> Batch:
    """Apply one of CHANGES to each image. `reach` (0..1) scales the range of the strengths."""
    if not reach:
        return images
    kinds = random.integers(0, len(CHANGES), len(images))
    amounts = reach * random.uniform(-1, 1, len(images))
    images = images.copy()
    for kind, change in enumerate(CHANGES):
        members = np.flatnonzero(kinds == kind)
        if len(members):
            changed = change(images[members], amounts[members])
            images[members] = np.clip(changed, 0, 1)
    return images


def _same(images: Batch, amounts: Each) -> Batch:
    return images


def _rotated(images: Batch, amounts: Each) -> Batch:
    ones = np.ones_like(amounts)
    return transformed(images, np.deg2rad(135) * amounts, ones, ones, 0 * ones)


def _slanted(images: Batch, amounts: Each) -> Batch:
    ones = np.ones_like(amounts)
    return transformed(images, 0 * ones, ones, ones, 0.99 * amounts)


def _slanted_down(images: Batch, amounts: Each) -> Batch:
    return _slanted(images.swapaxes(1, 2), amounts).swapaxes(1, 2)


def _moved_across(images: Batch, amounts: Each) -> Batch:
    ones = np.ones_like(amounts)
    return transformed(images, 0 * ones, ones, ones, 0 * ones, moved_x=images.shape[2] * amounts)


def _moved_down(images: Batch, amounts: Each) -> Batch:
    ones = np.ones_like(amounts)
    return transformed(images, 0 * ones, ones, ones, 0 * ones, moved_y=images.shape[1] * amounts)


def _away_from(reference: Batch, images: Batch, amounts: Each) -> Batch:
    """Move the images away from `reference`, or towards it for negative `amounts` (-1..1)."""
    return reference + _each(1 + 0.99 * amounts) * (images - reference)


def _brighter(images: Batch, amounts: Each) -> Batch:
    return _away_from(np.zeros_like(images), images, amounts)


def _coloured(images: Batch, amounts: Each) -> Batch:
    return _away_from(_grey(images), images, amounts)


def _contrasted(images: Batch, amounts: Each) -> Batch:
    return _away_from(_grey(images).mean(axis=(1, 2, 3), keepdims=True), images, amounts)


def _sharpened(images: Batch, amounts: Each) -> Batch:
    return _away_from(gaussian_blur(images, np.full(len(images), 0.6)), images, amounts)


def _posterized(images: Batch, amounts: Each) -> Batch:
    levels = _each(2.0 ** np.round(8 - 6 * np.abs(amounts)))
    scaled = images * np.float32(255 / 256)
    coarse: Batch = np.floor(scaled * levels) / levels / np.float32(255 / 256)
    return coarse


def _solarized(images: Batch, amounts: Each) -> Batch:
    return np.where(images >= _each(1 - np.abs(amounts)), 1 - images, images)


def _stretched(images: Batch, amounts: Each) -> Batch:
    """Stretch each channel to the full range (autocontrast)."""
    low = images.min(axis=(1, 2), keepdims=True)
    span = images.max(axis=(1, 2), keepdims=True) - low
    return np.where(span > 0, (images - low) / np.where(span > 0, span, 1), images)


def _equalized(images: Batch, amounts: Each) -> Batch:
    """Replace the values of each channel by their ranks (histogram equalisation)."""
    n, height, width, channels = images.shape
    rows = images.reshape(n, height * width, channels)
    order = np.sort(rows, axis=1)
    ranks = np.empty_like(rows)
    for image in range(n):
        for channel in range(channels):
            values = rows[image, :, channel]
            ranks[image, :, channel] = np.searchsorted(order[image, :, channel], values, "left")
    most = ranks.max(axis=1, keepdims=True)
    return np.where(most > 0, ranks / np.maximum(most, 1), rows).reshape(images.shape)


CHANGES: tuple[Callable[[Batch, Each], Batch], ...] = (
    *(_same, _rotated, _slanted, _slanted_down, _moved_across, _moved_down),
    *(_brighter, _coloured, _contrasted, _sharpened),
    *(_posterized, _solarized, _stretched, _equalized),
)


def _grey(images: Batch) -> Batch:
    if images.shape[-1] == 1:
        return images
    return (images @ GREY)[..., None]


def _each(values: Each) -> _Values:
    return values.astype(np.float32)[:, None, None, None]
