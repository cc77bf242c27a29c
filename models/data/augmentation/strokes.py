"""Change the width of light strokes on a dark ground, and draw the lines of paper."""

import numpy as np

from models.data.augmentation.types import Batch


def thickness(images: Batch, most: float, random: np.random.Generator) -> Batch:
    """Make the strokes of each image wider or thinner by up to `most` (0..1) pixels on each side.

    Each pixel moves towards the maximum, or the minimum, of itself and its four neighbours.
    """
    amount = random.uniform(-most, most, len(images)).astype(np.float32)[:, None, None, None]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    cross = np.stack(
        [
            images,
            *(padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]),
            *(padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]),
        ]
    )
    towards = np.where(amount > 0, cross.max(axis=0), cross.min(axis=0))
    changed: Batch = images + np.abs(amount) * (towards - images)
    return changed


def ruled(images: Batch, most: float, random: np.random.Generator) -> Batch:
    """Draw the lines of ruled paper over the images.

    The lines of one image are all vertical or all horizontal, have one grey, are 4 to 14 pixels
    apart and 1 or 2 pixels wide. They cover the image by up to the share `most` (0..1).
    """
    n, (height, width) = len(images), images.shape[1:3]
    apart, wide = random.integers(4, 15, n)[:, None], random.integers(1, 3, n)[:, None]
    place = (
        np.arange(max(height, width))[None] + random.integers(0, 15, n)[:, None]
    ) % apart < wide
    upright = (random.random(n) < 0.5)[:, None, None]
    covered = np.where(upright, place[:, None, :width], place[:, :height, None])[..., None]
    share, grey = (
        values.astype(np.float32)[:, None, None, None]
        for values in (random.uniform(0, most, n), random.random(n))
    )
    drawn: Batch = images + covered * share * (grey - images)
    return drawn
