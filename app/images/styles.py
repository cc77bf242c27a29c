"""How pictures of each style are prepared: the network's array, with words for what was done.

Digits follow LeCun, Cortes and Burges' description of MNIST, garments Xiao, Rasul and Vollgraf's
of Fashion-MNIST (2017). app/images/unchanged.py knows the pictures that are so already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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

# MNIST's digits fill 20 of 28 pixels, and their strokes are 2 to 3 of the 20 wide.
DIGIT_SHARE = 20 / 28
THINNEST, THICKEST = 0.09, 0.21  # shares of the longer side

# Ink that fills more than this share of its box may be the ground of something else.
BLOCK = 0.6

# A picture's info under this name is the (width, height) that its file has, where fewer pixels
# were decoded.
OWN_SIZE = "own size"

UNCHANGED = "already as in the data set: unchanged"
UNFRAMED = "removed the frame around it"
INVERTED = "inverted (dark ink on light paper)"


@dataclass(frozen=True)
class Reading:
    """A picture as a network takes it, and what was done to make it so."""

    pixels: Floats  # (height, width, channels) in 0..1
    steps: tuple[str, ...]  # "cropped to the ink", ...: the answer's "preprocessing"
    doubtful: bool = False  # what was taken for content may be something else
    marks: tuple[Reading, ...] = ()  # of several digits side by side each, from left to right

    def after(self, steps: Sequence[str]) -> Reading:
        """The same, where `steps` were done before."""
        if not steps:
            return self
        return Reading(self.pixels, (*steps, *self.steps), self.doubtful, self.marks)


def raw(image: Image.Image, target: ImageInput) -> Reading:
    """Colours converted and the size forced; nothing else."""
    steps: Steps = []
    mode = "L" if target.channels == 1 else "RGB"
    image = eight_bits(image)
    if has_alpha(image) and image.mode != "RGBA":  # not straight to `mode`: Pillow warns of some
        image = image.convert("RGBA")
    if image.mode != mode:
        image = image.convert(mode)
    if image.size != (target.width, target.height):
        image = image.resize((target.width, target.height), Image.Resampling.BILINEAR)
        steps.append(f"resized to {target.width}x{target.height}")
    return Reading(to_array(image), tuple(steps))


def digit_on(paper: Paper, pixels: Floats, target: ImageInput, floor: float = 0) -> Reading:
    """Light ink on black: the digit's longer side on 20 of 28 pixels, centred by its mass."""
    ink = find_ink(pixels, paper, tidy=True, floor=floor)
    alone = ink.strength[box(ink.strength > 0.25)]
    reading = _written(alone, target)
    marks = each_digit(ink.strength, ink.marks, target) if ink.marks else ()
    doubtful = _is_a_block(alone) or (ink.marks is not None and ink.marks.lined)
    return Reading(reading.pixels, (*_ink_steps(ink), *reading.steps), doubtful, marks)


def _written(ink: Floats, target: ImageInput) -> Reading:
    """The digit that `ink` (height, width) writes, cropped to it."""
    strength, changed = _adjust_pen(ink)
    room = round(DIGIT_SHARE * min(target.width, target.height))
    canvas = _centre_mass(_fit_into(strength, room), target)
    size = f"{target.width}x{target.height}"
    scaled = f"scaled to fit {room}x{room}"
    return Reading(canvas, ("cropped to the ink", *changed, scaled, f"centred by mass in {size}"))


def each_digit(ink: Floats, marks: Marks, target: ImageInput) -> tuple[Reading, ...]:
    """The digits that stand side by side, from left to right; empty where there is one."""
    digits = [np.where(marks.around(chosen), ink, 0) for chosen in side_by_side(marks)]
    return tuple(
        _written(alone[box(alone > 0.25)], target) for alone in digits if (alone > 0.25).any()
    )


def garment_on(paper: Paper, pixels: Floats, target: ImageInput, floor: float = 0) -> Reading:
    """The garment that lies on `paper`, with its own shades."""
    # A sandal is many marks, and none of them dust.
    ink = find_ink(pixels, paper, tidy=False, floor=floor)
    where = box(ink.strength > 0.05)  # the authors' threshold
    # The cloth keeps its own shades: how light it is, counted from the paper it lies on.
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
    """A colour photograph with the network's proportions: see models/pictures.py.

    The data sets' own pictures were made so that objects fill the frame, hence no borders, unless
    the network was trained on pictures with borders.
    """
    steps: Steps = ["flattened transparency onto white"] if has_alpha(image) else []
    prepared, (across, down) = pictures.photo(image, target)
    if image.size == prepared.size:
        return Reading(to_array(prepared), (*steps, UNCHANGED))
    if (across, down) != image.size:
        # In the picture's own pixels, of which a large JPEG is read at a part.
        own = image.info.get(OWN_SIZE, image.size)
        wide, tall = own[0] * across / image.width, own[1] * down / image.height
        steps.append(f"cropped to the middle {round(wide)}x{round(tall)}")
    how = "scaled to fit" if target.resize == "pad" else "resized to"
    return Reading(to_array(prepared), (*steps, f"{how} {target.width}x{target.height}"))


def _is_a_block(ink: Floats) -> bool:
    """Whether cropped `ink` fills its box as a sheet of paper does, and no digit."""
    return bool(ink.mean() > BLOCK and min(ink.shape) > 0.4 * max(ink.shape))


def _ink_steps(ink: Ink) -> Steps:
    return [INVERTED] * ink.dark + ["left out dust and edges"] * ink.cleaned


def _adjust_pen(ink: Floats) -> tuple[Floats, Steps]:
    """`ink` with strokes as wide as MNIST's pens made them, where they are far from it."""
    side = max(ink.shape)
    width = _stroke_width(ink) / side
    if THINNEST <= width <= THICKEST:
        return ink, []
    # Enough pixels to grow or shrink by parts of a stroke, and few enough to be quick.
    ink = _resize(ink, 120 / side)
    side = max(ink.shape)
    change = round(((THINNEST if width < THINNEST else THICKEST) - width) * side / 2)
    if change > 0:
        return _grow(np.pad(ink, change), change), ["thickened thin strokes"]
    if change < 0:
        return 1 - _grow(1 - np.pad(ink, 1), -change), ["thinned thick strokes"]
    return ink, []


def _stroke_width(ink: Floats) -> float:
    """The mean width of strokes in pixels: twice their area over their outline's length."""
    padded = np.pad(ink, 1)
    steps = np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()
    return float(2 * ink.sum() / (steps * np.pi / 4))  # steps count a slanted outline 4/pi times


def _grow(ink: Floats, times: int) -> Floats:
    """The largest value within `times` pixels, in octagons."""
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
    """`ink` with its longer side at `room` pixels; with `peak`, full ink is 1 afterwards."""
    small = _resize(ink, room / max(ink.shape))
    most = float(small.max())
    return small / most if peak and most > 0 else small


def _resize(ink: Floats, scale: float) -> Floats:
    """`ink` scaled with its proportions kept, antialiased, in 0..1."""
    size = max(1, round(ink.shape[1] * scale)), max(1, round(ink.shape[0] * scale))
    small = Image.fromarray(ink).resize(size, Image.Resampling.BICUBIC)
    return np.clip(np.asarray(small, np.float32), 0, 1)


def _centre_mass(small: Floats, target: ImageInput) -> Floats:
    """`small` on black, with its centre of mass in the middle."""
    rows, columns = np.arange(small.shape[0]), np.arange(small.shape[1])
    mass = small.sum()
    return _place(small, (small.sum(1) @ rows / mass, small.sum(0) @ columns / mass), target)


def _place(small: Floats, middle: tuple[float, float], target: ImageInput) -> Floats:
    """`small` on black, with the point `middle` (row, column) of it in the centre if it fits so."""
    canvas = np.zeros((target.height, target.width, 1), np.float32)
    top = round(target.height / 2 - middle[0])
    left = round(target.width / 2 - middle[1])
    top = min(max(top, 0), target.height - small.shape[0])
    left = min(max(left, 0), target.width - small.shape[1])
    canvas[top : top + small.shape[0], left : left + small.shape[1], 0] = small
    return canvas
