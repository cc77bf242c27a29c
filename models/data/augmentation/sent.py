"""Pictures as people send them: each image gets some of the changes between an object and a file.

A part of the images stays unchanged, because the test images of the data set are like them.
"""

import numpy as np

from models.data.augmentation.geometry import rotate
from models.data.augmentation.light import blur, brightness, contrast, haze, noise, shade
from models.data.augmentation.resolution import jpeg, resample
from models.data.augmentation.strokes import ruled, thickness
from models.data.augmentation.types import Augmentation, Batch

# Augmentations with their strengths, in the order in which they happen to a real picture.
Steps = tuple[tuple[Augmentation, float], ...]

STEPS_OF_EACH = 2  # number of steps that are applied to one image

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
    """Change the share `share` (0..1) of the images as written digits vary.

    The steps are those of pen, hand, paper, light and file.
    """
    return some_of(images, WRITTEN, share, random)


def photographed(images: Batch, share: float, random: np.random.Generator) -> Batch:
    """Change the share `share` (0..1) of the images as photographs vary.

    The steps are those of hand, light, camera and file.
    """
    return some_of(images, PHOTOGRAPHED, share, random)


def some_of(images: Batch, steps: Steps, share: float, random: np.random.Generator) -> Batch:
    """Apply STEPS_OF_EACH random `steps`, in their order, to the share `share` of the images."""
    n = len(images)
    chosen = random.random(n) < share
    place = random.random((n, len(steps))).argsort(axis=1).argsort(axis=1)
    images = images.copy()
    for number, (step, strength) in enumerate(steps):
        members = np.flatnonzero(chosen & (place[:, number] < STEPS_OF_EACH))
        if len(members):
            images[members] = step(images[members], strength, random)
    return images
