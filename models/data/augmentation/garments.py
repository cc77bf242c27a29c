"""Vary garments as product photographs vary, with the procedure that made Fashion-MNIST.

That procedure (Xiao, Rasul and Vollgraf, arXiv 1708.07747, section 2) turns a photograph on white
into an image: trim the border, scale the longest edge to 28 pixels, sharpen, extend, negate, and
convert to grey. Its result depends on light, colour and focus of the photograph. So this
augmentation changes an image as a photograph could differ, and then applies the procedure again.
"""

import numpy as np
from PIL import Image, ImageFilter

from models.data.augmentation.light import blur, contrast, shade
from models.data.augmentation.resolution import arrays, pictures
from models.data.augmentation.types import Batch

LARGER = 3  # how many times longer the sides of the photograph are than those of the image
WHITE = 250  # pixels of this value (0..255) or more are background
SHARPEN = ImageFilter.UnsharpMask(radius=1, percent=60, threshold=0)


def garment(images: Batch, share: float, random: np.random.Generator) -> Batch:
    """Change the share `share` (0..1) of the garments, which are light on black."""
    members = np.flatnonzero(random.random(len(images)) < share)
    if not len(members):
        return images
    changed = images[members]
    visible = changed.max(axis=(1, 2, 3)) > 1 - WHITE / 255
    lit = shade(contrast(changed, 0.6, random), 0.6, random)
    # The background stays black, whatever the light on the garment.
    lit = np.where(changed > 1 - WHITE / 255, np.maximum(lit, 2 / 255), 0).astype(np.float32)
    made = [
        _made(picture, bool(random.random() < 0.5), 1 - 0.25 * random.random())
        if shows
        else picture
        for picture, shows in zip(pictures(blur(lit, 0.8, random)), visible, strict=True)
    ]
    images = images.copy()
    images[members] = arrays(made)
    return images


def _made(picture: Image.Image, sharp: bool, taller: float) -> Image.Image:
    """Return a garment, light on black, after the procedure of the data set.

    `taller` (up to 1) scales the width, as for a garment of another cut. `sharp` says whether it is
    sharpened.
    """
    width, height = picture.size
    photograph = picture.resize((LARGER * width, LARGER * height), Image.Resampling.BICUBIC)
    box = photograph.point(lambda value: 255 * (value > 255 - WHITE)).getbbox()
    trimmed = photograph.crop(box or (0, 0, *photograph.size))
    wide, high = trimmed.size[0] * taller, trimmed.size[1]
    scale = min(width, height) / max(wide, high)
    size = max(1, round(wide * scale)), max(1, round(high * scale))
    garment = trimmed.resize(size, Image.Resampling.BILINEAR)
    if sharp:
        garment = garment.filter(SHARPEN)
    canvas = Image.new("L", picture.size)
    canvas.paste(garment, ((width - size[0]) // 2, (height - size[1]) // 2))
    return canvas
