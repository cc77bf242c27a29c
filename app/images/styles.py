"""The preparation of pictures of each style: the network's array, and the steps that were taken.

Digits follow LeCun, Cortes and Burges' description of MNIST, garments that of Fashion-MNIST by
Xiao, Rasul and Vollgraf (2017). app/images/unchanged.py recognises pictures that need no change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from app.images.grids import Floats, box, luma
from app.images.ink import Ink, find_ink
from app.images.marks import Marks, side_by_side
from app.images.paper import Paper
from models import pictures
from models.cards import ImageInput
from models.pictures import eight_bits, has_alpha, to_array

Steps = list[str]

# MNIST's digits fill 20 of 28 pixels, and their strokes are 2 to 3 of the 20 pixels wide.
DIGIT_SHARE = 20 / 28
THINNEST, THICKEST = 0.09, 0.21  # shares of the longer side

# Ink that fills more than this share of its box may be the ground of something else.
BLOCK = 0.6

# The key in a picture's info for the (width, height) in its file, if fewer pixels were decoded.
OWN_SIZE = "own size"

UNCHANGED = "already as in the data set: unchanged"
UNFRAMED = "removed the frame around it"
INVERTED = "inverted (dark ink on light paper)"


class Reading(NamedTuple):
    """A picture as a network takes it, and the steps that were taken."""

    pixels: Floats  # (height, width, channels) in 0..1
    steps: tuple[str, ...]  # "cropped to the ink", ...: the answer's "preprocessing"
    doubtful: bool = False  # whether the content may be something else
    marks: tuple[Reading, ...] = ()  # the digits side by side, from left to right

    def after(self, steps: Sequence[str]) -> Reading:
        """Return this reading with `steps` before its own."""
        if not steps:
            return self
        return Reading(self.pixels, (*steps, *self.steps), self.doubtful, self.marks)


def raw(image: Image.Image, target: ImageInput) -> Reading:
    """Return the picture with its colours converted and its size changed, and nothing else."""
    steps: Steps = []
    mode = "L" if target.channels == 1 else "RGB"
    image = eight_bits(image)
    if has_alpha(image) and image.mode != "RGBA":  # Pillow warns if some modes skip this step
        image = image.convert("RGBA")
    if image.mode != mode:
        image = image.convert(mode)
    if image.size != (target.width, target.height):
        image = image.resize((target.width, target.height), Image.Resampling.BILINEAR)
        steps.append(f"resized to {target.width}x{target.height}")
    return Reading(to_array(image), tuple(steps))


def digit_on(paper: Paper, pixels: Floats, target: ImageInput, floor: float = 0) -> Reading:
    """Return light ink on black, with the digit's longer side on 20 of 28 pixels.

    The digit is centred by its mass.
    """
    ink = find_ink(pixels, paper, tidy=True, floor=floor)
    alone = ink.strength[box(ink.strength > 0.25)]
    reading = _written(alone, target)
    marks = each_digit(ink.strength, ink.marks, target) if ink.marks else ()
    doubtful = _is_a_block(alone) or (ink.marks is not None and ink.marks.lined)
    return Reading(reading.pixels, (*_ink_steps(ink), *reading.steps), doubtful, marks)


def _written(ink: Floats, target: ImageInput) -> Reading:
    """Return the digit in `ink` (height, width), cropped to it."""
    strength, changed = _adjust_pen(ink)
    room = round(DIGIT_SHARE * min(target.width, target.height))
    canvas = _centre_mass(_fit_into(strength, room), target)
    size = f"{target.width}x{target.height}"
    scaled = f"scaled to fit {room}x{room}"
    return Reading(canvas, ("cropped to the ink", *changed, scaled, f"centred by mass in {size}"))


def each_digit(ink: Floats, marks: Marks, target: ImageInput) -> tuple[Reading, ...]:
    """Return the digits that stand side by side, from left to right; empty for one digit."""
    digits = [np.where(marks.around(chosen), ink, 0) for chosen in side_by_side(marks)]
    return tuple(
        _written(alone[box(alone > 0.25)], target) for alone in digits if (alone > 0.25).any()
    )


def garment_on(paper: Paper, pixels: Floats, target: ImageInput, floor: float = 0) -> Reading:
    """Return the garment that lies on `paper`, with its own shades."""
    # A sandal has many marks, and none of them is dust.
    ink = find_ink(pixels, paper, tidy=False, floor=floor)
    where = box(ink.strength > 0.05)  # the threshold of Fashion-MNIST's authors
    # The cloth keeps its own shades: its lightness, measured from that of the paper.
    light, ground = luma(pixels), ink.paper
    cloth = (ground - light) / (ground + 1e-3) if ink.dark else (light - ground) / (1.001 - ground)
    cloth = np.where(ink.strength > 0, np.clip(cloth, 0, 1), 0).astype(np.float32)[where]
    small = _fit_into(cloth, min(target.width, target.height), peak=False)
    canvas = _place(small, (small.shape[0] / 2, small.shape[1] / 2), target)
    steps = (
        *_ink_steps(ink),
        "cropped to the object",
        f"scaled to fit {target.width}x{target.height}",
        "centred",
    )
    return Reading(canvas, steps)


def photo(image: Image.Image, target: ImageInput) -> Reading:
    """Return a photograph with the proportions of the network: see models/pictures.py.

    In the data sets' own pictures, objects fill the frame, so no borders are added, unless the
    network was trained on pictures with borders.
    """
    steps: Steps = ["flattened transparency onto white"] if has_alpha(image) else []
    prepared, (across, down) = pictures.photo(image, target)
    if image.size == prepared.size:
        return Reading(to_array(prepared), (*steps, UNCHANGED))
    if (across, down) != image.size:
        # Given in pixels of the file, since a large JPEG is decoded at a part of its size.
        own = image.info.get(OWN_SIZE, image.size)
        wide, tall = own[0] * across / image.width, own[1] * down / image.height
        steps.append(f"cropped to the middle {round(wide)}x{round(tall)}")
    how = "scaled to fit" if target.resize == "pad" else "resized to"
    return Reading(to_array(prepared), (*steps, f"{how} {target.width}x{target.height}"))


def _is_a_block(ink: Floats) -> bool:
    """Return whether cropped `ink` fills its box as a sheet of paper does, unlike a digit."""
    return bool(ink.mean() > BLOCK and min(ink.shape) > 0.4 * max(ink.shape))


def _ink_steps(ink: Ink) -> Steps:
    return [INVERTED] * ink.dark + ["left out dust and edges"] * ink.cleaned


def _adjust_pen(ink: Floats) -> tuple[Floats, Steps]:
    """Return `ink` with strokes of about MNIST's width, and the step taken."""
    side = max(ink.shape)
    width = _stroke_width(ink) / side
    if THINNEST <= width <= THICKEST:
        return ink, []
    # Enough pixels to change the width by parts of a stroke, and few enough to be quick.
    ink = _resize(ink, 120 / side)
    side = max(ink.shape)
    change = round(((THINNEST if width < THINNEST else THICKEST) - width) * side / 2)
    if change > 0:
        return _grow(np.pad(ink, change), change), ["thickened thin strokes"]
    if change < 0:
        return 1 - _grow(1 - np.pad(ink, 1), -change), ["thinned thick strokes"]
    return ink, []


def _stroke_width(ink: Floats) -> float:
    """Return the mean width of strokes in pixels.

    It is twice their area over the length of their outline.
    """
    padded = np.pad(ink, 1)
    steps = np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()
    return float(2 * ink.sum() / (steps * np.pi / 4))  # steps count a slanted outline 4/pi times


def _grow(ink: Floats, times: int) -> Floats:
    """Return the largest value within `times` pixels, in octagons."""
    for turn in range(times):
        p = np.pad(ink, 1)
        rows = np.maximum(np.maximum(p[:-2, 1:-1], p[2:, 1:-1]), ink)
        if turn % 2:
            p = np.pad(rows, ((0, 0), (1, 1)))
            ink = np.maximum(np.maximum(p[:, :-2], p[:, 2:]), rows)
        else:
            ink = np.maximum(np.maximum(p[1:-1, :-2], p[1:-1, 2:]), rows)
    return ink


def _fit_into(ink: Floats, room: int, peak: bool = True) -> Floats:
    """Return `ink` with its longer side at `room` pixels; `peak` makes its largest value 1."""
    small = _resize(ink, room / max(ink.shape))
    most = float(small.max())
    return small / most if peak and most > 0 else small


def _resize(ink: Floats, scale: float) -> Floats:
    """Return `ink` scaled with its proportions kept, antialiased, in 0..1."""
    size = max(1, round(ink.shape[1] * scale)), max(1, round(ink.shape[0] * scale))
    small = Image.fromarray(ink).resize(size, Image.Resampling.BICUBIC)
    return np.clip(np.asarray(small, np.float32), 0, 1)


def _centre_mass(small: Floats, target: ImageInput) -> Floats:
    """Return `small` on black, with its centre of mass in the middle."""
    rows, columns = np.arange(small.shape[0]), np.arange(small.shape[1])
    mass = small.sum()
    return _place(small, (small.sum(1) @ rows / mass, small.sum(0) @ columns / mass), target)


def _place(small: Floats, middle: tuple[float, float], target: ImageInput) -> Floats:
    """Return `small` on black, with its point `middle` (row, column) near the centre.

    It moves away from the centre if it would be cut off.
    """
    canvas = np.zeros((target.height, target.width, 1), np.float32)
    top = round(target.height / 2 - middle[0])
    left = round(target.width / 2 - middle[1])
    top = min(max(top, 0), target.height - small.shape[0])
    left = min(max(left, 0), target.width - small.shape[1])
    canvas[top : top + small.shape[0], left : left + small.shape[1], 0] = small
    return canvas
