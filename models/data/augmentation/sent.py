"""Pictures as people send them: what happens between a thing and a file, a part of it to each.

Most images of a batch stay as they are, since the data set's own test images are like those.
"""

import numpy as np

from models.data.augmentation.geometry import rotate
from models.data.augmentation.light import blur, brightness, contrast, haze, noise, shade
from models.data.augmentation.resolution import jpeg, resample
from models.data.augmentation.strokes import ruled, thickness
from models.data.augmentation.types import Augmentation, Batch

Steps = tuple[tuple[Augmentation, float], ...]  # with their strengths, in the order of the way

STEPS_OF_EACH = 2

WRITTEN: Steps = (
    (thickness, 0.8),
    (rotate, 12.0),
    (ruled, 1.0),
    (shade, 0.6),
    (haze, 0.9),
    (contrast, 0.7),
    (brightness, 0.3),
    (blur, 1.2),
    (noise, 0.3),
    (resample, 0.5),
    (jpeg, 80.0),
)
PHOTOGRAPHED: Steps = (
    (rotate, 8.0),
    (shade, 0.6),
    (haze, 0.9),
    (contrast, 0.9),
    (brightness, 0.3),
    (blur, 1.2),
    (noise, 0.2),
    (resample, 0.5),
    (jpeg, 85.0),
)


def written(images: Batch, share: float, random: np.random.Generator) -> Batch:
    """Change the share of the images as writing changes: pen, hand, paper, light and file."""
    return some_of(images, WRITTEN, share, random)


def photographed(images: Batch, share: float, random: np.random.Generator) -> Batch:
    """Change the share of the images as photographs change: hand, light, camera and file."""
    return some_of(images, PHOTOGRAPHED, share, random)


def some_of(images: Batch, steps: Steps, share: float, random: np.random.Generator) -> Batch:
    """Put each image of the given share through STEPS_OF_EACH of the `steps`, in their order."""
    n = len(images)
    chosen = random.random(n) < share
    place = random.random((n, len(steps))).argsort(axis=1).argsort(axis=1)
    images = images.copy()
    for number, (step, strength) in enumerate(steps):
        members = np.flatnonzero(chosen & (place[:, number] < STEPS_OF_EACH))
        if len(members):
            images[members] = step(images[members], strength, random)
    return images
