"""Mixtures of two images of a batch, and of their labels in the same proportion.

Reward learning compares a single choice with a single class. So a recipe that combines it with a
mixture is refused.
"""

import numpy as np

from models.data.augmentation.types import Batch, Rows


def mixup(
    images: Batch, labels: Rows, alpha: float, random: np.random.Generator
) -> tuple[Batch, Rows]:
    """Blend each image with another one of the batch. The share follows Beta(alpha, alpha).

    Zhang et al., arXiv 1710.09412.
    """
    if not alpha:
        return images, labels
    partner = random.permutation(len(images))
    share = random.beta(alpha, alpha, len(images)).astype(np.float32)
    own = share[:, None, None, None]
    mixed = own * images + (1 - own) * images[partner]
    return mixed, share[:, None] * labels + (1 - share[:, None]) * labels[partner]


def cutmix(
    images: Batch, labels: Rows, alpha: float, random: np.random.Generator
) -> tuple[Batch, Rows]:
    """Replace a rectangle of each image by that of another one.

    The share of the pixels follows Beta(alpha, alpha), and labels are mixed in the same share.
    Yun et al., arXiv 1905.04899.
    """
    if not alpha:
        return images, labels
    n, (height, width) = len(images), images.shape[1:3]
    partner = random.permutation(n)
    side = np.sqrt(1 - random.beta(alpha, alpha, n))  # of the rectangle, share of the image's
    rows = _span(height, side, random)
    columns = _span(width, side, random)
    replaced = rows[:, :, None] & columns[:, None, :]
    mixed = np.where(replaced[..., None], images[partner], images)
    share = (1 - replaced.mean(axis=(1, 2))).astype(np.float32)[:, None]
    return mixed, share * labels + (1 - share) * labels[partner]


def _span(length: int, side: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a mask (N, length): the places within `side * length` around a random centre."""
    off = np.arange(length)[None, :] - random.uniform(0, length, len(side))[:, None]
    return np.abs(off) < side[:, None] * length / 2
