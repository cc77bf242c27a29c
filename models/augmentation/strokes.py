"""Change the width of strokes that are light on a dark ground."""

import numpy as np

from models.augmentation.types import Batch


def thickness(images: Batch, most: float, random: np.random.Generator) -> Batch:
    """Make each image's strokes wider or thinner by up to `most` (0..1) pixels on each side.

    Each pixel moves towards the largest, or the smallest, of itself and its four neighbours.
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
