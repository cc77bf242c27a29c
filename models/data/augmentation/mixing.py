"""Mix two images of a batch, and their labels in the same shares.

A rule that compares a single choice with a single class, such as reward learning, cannot take
these; a recipe that asks for both is refused.
"""

import numpy as np

from models.data.augmentation.types import Batch, Rows


def mixup(
    images: Batch, labels: Rows, alpha: float, random: np.random.Generator
) -> tuple[Batch, Rows]:
    """Blend each image with another of the batch; the share is drawn from Beta(alpha, alpha).

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
    """Replace a rectangle of each image by that of another; its share follows Beta(alpha, alpha).

    The labels' shares are those of the pixels. Yun et al., arXiv 1905.04899.
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
    """Which of `length` places lie within `side * length` about a random centre: (N, length)."""
    off = np.arange(length)[None, :] - random.uniform(0, length, len(side))[:, None]
    return np.abs(off) < side[:, None] * length / 2
