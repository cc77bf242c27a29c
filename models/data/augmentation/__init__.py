"""Random changes to training images. They work on arrays and are the same on every backend.

A recipe lists them with their strengths: `augment = {shift = 2, mixup = 0.2}`. An augmentation
takes images (N, height, width, channels), float32 in 0..1, a strength and a numpy generator. It
returns new images of the same shape. A mixture also takes and returns the labels (N, classes).
"""

from collections.abc import Mapping

import numpy as np

from models.data.augmentation.garments import garment
from models.data.augmentation.geometry import cutout, flip, rotate, shift, warp
from models.data.augmentation.light import blur, brightness, contrast, haze, noise, shade
from models.data.augmentation.mixing import cutmix, mixup
from models.data.augmentation.resolution import jpeg, resample
from models.data.augmentation.sent import photographed, written
from models.data.augmentation.strokes import ruled, thickness
from models.data.augmentation.trivial import trivial
from models.data.augmentation.types import Augmentation, Batch, Mixture, Rows

AUGMENTATIONS: dict[str, Augmentation] = {
    augmentation.__name__: augmentation
    for augmentation in (
        *(warp, rotate, shift, flip, cutout),
        *(brightness, contrast, shade, haze, noise, blur),
        *(resample, jpeg, thickness, ruled),
        *(trivial, written, photographed, garment),
    )
}
MIXTURES: dict[str, Mixture] = {mixture.__name__: mixture for mixture in (mixup, cutmix)}


def augment(
    images: Batch, labels: Rows, wanted: Mapping[str, float], random: np.random.Generator
) -> tuple[Batch, Rows]:
    """Apply the augmentations and mixtures `wanted` (name -> strength), in their order."""
    for name, strength in wanted.items():
        if name in MIXTURES:
            images, labels = MIXTURES[name](images, labels, strength, random)
        else:
            images = AUGMENTATIONS[name](images, strength, random)
    return images, labels
