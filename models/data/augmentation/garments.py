"""Garments as product photographs show them, made into images as Fashion-MNIST was made.

That data set's recipe (Xiao, Rasul and Vollgraf, arXiv 1708.07747, section 2) turns a photograph on
white into an image: trim the border, longest edge to 28 pixels, sharpen, extend, negate, grey. A
photograph that is lit, coloured or focused otherwise comes out otherwise. So each image goes back
to dark on white, changes as a photograph would, and takes the recipe again.
"""

import numpy as np
from PIL import Image, ImageFilter

from models.data.augmentation.light import blur, contrast, shade
from models.data.augmentation.resolution import arrays, pictures
from models.data.augmentation.types import Batch

LARGER = 3  # a photograph has so many times the pixels of an image on each side
WHITE = 250  # from this value of 0..255 on, a pixel is background
SHARPEN = ImageFilter.UnsharpMask(radius=1, percent=60, threshold=0)


def garment(images: Batch, share: float, random: np.random.Generator) -> Batch:
    """Change the given share of the garments, light on black, as photographs of them differ."""
    members = np.flatnonzero(random.random(len(images)) < share)
    if not len(members):
        return images
    changed = images[members]
    visible = changed.max(axis=(1, 2, 3)) > 1 - WHITE / 255
    lit = shade(contrast(changed, 0.6, random), 0.6, random)
    # The background stays black, however the garment is lit.
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
    """Return a garment, light on black, through the data set's own recipe.

    `taller`, up to 1, is the share of its width, or of its height, that a garment of another cut
    has; `sharp` says whether it is sharpened.
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
