"""Losses on the way of a picture: lower resolution and JPEG compression."""

import io

import numpy as np
from PIL import Image

from models.data.augmentation.types import Batch

_FILTERS = (
    *(Image.Resampling.BOX, Image.Resampling.BILINEAR),
    *(Image.Resampling.BICUBIC, Image.Resampling.LANCZOS),
)


def resample(images: Batch, most: float, random: np.random.Generator) -> Batch:
    """Shrink each image by up to the share `most` (below 1) of its sides, and enlarge it again.

    Both filters are chosen at random among those of Pillow.
    """
    if not most:
        return images
    height, width = images.shape[1:3]
    changed = []
    for picture in pictures(images):
        kept = 1 - random.uniform(0, most)
        small = max(1, round(width * kept)), max(1, round(height * kept))
        down, up = (_FILTERS[number] for number in random.integers(0, len(_FILTERS), 2))
        changed.append(picture.resize(small, down).resize((width, height), up))
    return arrays(changed)


def jpeg(images: Batch, most: float, random: np.random.Generator) -> Batch:
    """Compress each image as JPEG with a quality between 100 - `most` and 100."""
    if not most:
        return images
    qualities = np.round(100 - random.uniform(0, most, len(images))).astype(int)
    return arrays(
        [
            through_jpeg(picture, int(quality))
            for picture, quality in zip(pictures(images), qualities, strict=True)
        ]
    )


def through_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    """Return `picture` after JPEG compression with this quality (1 to 100)."""
    stored = io.BytesIO()
    picture.save(stored, "JPEG", quality=quality)
    return Image.open(stored)


def pictures(images: Batch) -> list[Image.Image]:
    """Convert images in 0..1 to Pillow images, grey (L) or RGB, with values rounded to 8 bits."""
    whole = np.round(np.clip(images, 0, 1) * 255).astype(np.uint8)
    return [
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels) for pixels in whole
    ]


def arrays(changed: list[Image.Image]) -> Batch:
    """Convert Pillow images of one size to float32 (N, height, width, channels) in 0..1."""
    whole = np.stack([np.asarray(picture) for picture in changed])
    if whole.ndim == 3:
        whole = whole[..., None]
    return whole.astype(np.float32) / np.float32(255)
