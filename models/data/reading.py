"""A picture's file -> the uint8 array that a network learns from.

Photos are prepared by the very function of the service, digits and garments as it prepares those
that are easy: even paper, nothing else on it.
"""

import contextlib
import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from models.cards import ImageInput
from models.pictures import OVERSIZE, on_paper, photo

with contextlib.suppress(ImportError):  # HEIC, which phones send, where its reader is installed
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)

# What the service reads, by Pillow's names.
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "AVIF", "HEIF", "TIFF", "PPM", "BMP")
_WORKING = 12  # digits and garments are looked for at so many times the network's side
_DIGIT_SHARE = 20 / 28  # of the side, as MNIST has it
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_FAINTEST = 0.04  # of full ink

Pixels = npt.NDArray[np.uint8]  # (height, width, channels)


class UnreadableError(Exception):
    """A file that is no picture, or a broken one: says why."""


@dataclass(frozen=True)
class Picture:
    """A picture as the network takes it."""

    pixels: Pixels
    size: tuple[int, int]  # (width, height) of the file's picture


def read_picture(content: bytes, target: ImageInput) -> Picture:
    """Return the picture in a file's bytes, upright and prepared by the style of `target`.

    Raises UnreadableError.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(content), formats=_known())
            size = opened.size
            opened.draft(None, (OVERSIZE * target.width, OVERSIZE * target.height))
            opened.load()
            if opened.mode == "LAB":
                raise UnreadableError("colours in CIELAB are not read")
            return Picture(_prepared(_upright(opened), target), size)
    except UnreadableError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableError("more pixels than a picture has") from error
    except UnidentifiedImageError as error:
        raise UnreadableError("no picture of a known format") from error
    except Exception as error:  # Pillow's readers raise whatever a broken file leads them to
        raise UnreadableError(f"damaged: {str(error) or type(error).__name__}") from error


def _upright(image: Image.Image) -> Image.Image:
    """`image` as its EXIF entry says that it must be turned, if that is legible."""
    with contextlib.suppress(Exception):  # a picture with broken metadata is still a picture
        return ImageOps.exif_transpose(image)
    return image


def _known() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _prepared(image: Image.Image, target: ImageInput) -> Pixels:
    shape = target.height, target.width, target.channels
    if target.style == "photo":
        return np.asarray(photo(image, target)[0]).reshape(shape)
    if image.size == (target.width, target.height) and image.mode == "L":
        exact = np.asarray(image)
        if np.median(_edge(exact)) < 64:  # light on dark already, and in its place
            return exact.reshape(shape).copy()
    grey = _ink(image, target)
    where = grey > (0.25 if target.style == "digit" else 0.05)
    if not where.any():
        raise UnreadableError("nothing stands out: it is blank or nearly so")
    rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    grey = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    side = min(target.width, target.height)
    room = round(_DIGIT_SHARE * side) if target.style == "digit" else side
    scale = room / max(grey.shape)
    small_size = max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale))
    resized = Image.fromarray(grey).resize(small_size, Image.Resampling.BICUBIC)
    small = np.clip(np.asarray(resized, np.float32), 0, 1)
    if target.style == "digit":
        small = small / small.max()
    return np.round(255 * _centred(small, target)).astype(np.uint8).reshape(shape)


def _ink(image: Image.Image, target: ImageInput) -> npt.NDArray[np.float32]:
    """Return what stands on the paper, most of the edge: (height, width), 0 to 1."""
    pixels, _ = on_paper(image, _WORKING * max(target.width, target.height))
    grey = pixels @ _LUMA if pixels.shape[2] == 3 else pixels[..., 0]
    paper = float(np.median(_edge(grey)))
    ink = (paper - grey) if paper > 0.5 else (grey - paper)
    most = max(float(np.quantile(ink, 0.999)), float(ink.max()) / 2)
    if most < _FAINTEST:
        raise UnreadableError("nothing stands out: it is blank or nearly so")
    full = most if target.style == "digit" else max(paper, 1 - paper)
    strength: npt.NDArray[np.float32] = np.clip(ink / full, 0, 1).astype(np.float32)
    return strength


def _centred(small: npt.NDArray[np.float32], target: ImageInput) -> npt.NDArray[np.float32]:
    """`small` on black: a digit's centre of mass in the middle, or a garment's own middle."""
    middle = small.shape[0] / 2, small.shape[1] / 2
    if target.style == "digit":
        rows, columns = np.arange(small.shape[0]), np.arange(small.shape[1])
        mass = float(small.sum())
        middle = float(small.sum(1) @ rows) / mass, float(small.sum(0) @ columns) / mass
    canvas = np.zeros((target.height, target.width), np.float32)
    top = min(max(round(target.height / 2 - middle[0]), 0), target.height - small.shape[0])
    left = min(max(round(target.width / 2 - middle[1]), 0), target.width - small.shape[1])
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return canvas


def _edge(grey: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.concatenate((grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]))
