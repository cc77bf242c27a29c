"""How pictures of each style are prepared: the network's array, with words for what was done.

Digits follow LeCun, Cortes and Burges' description of MNIST, garments Xiao, Rasul and Vollgraf's
of Fashion-MNIST (2017); a picture that already is as in the data set passes unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.grids import Floats, box, luma, margin
from app.ink import Ink, blank, find_ink
from app.marks import Marks, find_marks, side_by_side
from app.papers import Paper
from app.pixels import eight_bits, grey_bytes, has_alpha, to_array, unit
from models.cards import ImageInput

Steps = list[str]

# MNIST's digits fill 20 of 28 pixels, and their strokes are 2 to 3 of the 20 wide.
DIGIT_SHARE = 20 / 28
THINNEST, THICKEST = 0.09, 0.21  # shares of the longer side

# Ink that fills more than this share of its box may be the ground of something else.
BLOCK = 0.6

# A picture whose sides differ by more than this share is not one of the data set's, enlarged.
MOST_OBLONG = 0.03
# What was enlarged from the network's size is so near, of 1, to its own smooth enlargement.
ENLARGED = 0.025
# Enlarging and reducing leaves ripples of up to so much, of 255, on a black ground.
RINGING = 12
_FEW = 32  # a glance at a picture takes in at least so many pixels a side
# Of a picture that is taken as it is, three quarters of the edge are darker than this, of 1 ...
LIGHTEST_EDGE = 0.35
# ... and something is lighter than them by so much.
FAINTEST_AS_IT_IS = 0.25

# A photograph gives at most this share of its longer side to become square ...
MOST_CROPPED = 0.25
# ... and what is left is squeezed by at most this much; panoramas are cropped further.
MOST_SQUEEZED = 4 / 3

# A picture's info under this name is the (width, height) that its file has, where fewer pixels
# were decoded.
OWN_SIZE = "own size"

UNCHANGED = "already as in the data set: unchanged"
UNFRAMED = "removed the frame around it"
FILLED = "already as in the data set, but larger"
INVERTED = "inverted (dark ink on light paper)"


@dataclass(frozen=True)
class Reading:
    """A picture as a network takes it, and what was done to make it so."""

    pixels: Floats  # (height, width, channels) in 0..1
    steps: tuple[str, ...]  # "cropped to the ink", ...: the answer's "preprocessing"
    doubtful: bool = False  # what was taken for content may be something else
    marks: tuple[Reading, ...] = ()  # of several digits side by side each, from left to right

    def after(self, steps: Iterable[str]) -> Reading:
        """The same, where `steps` were done before."""
        before = tuple(steps)
        return Reading(self.pixels, before + self.steps, self.doubtful, self.marks)


def raw(image: Image.Image, target: ImageInput) -> Reading:
    """Colours converted and the size forced; nothing else."""
    steps: Steps = []
    mode = "L" if target.channels == 1 else "RGB"
    image = eight_bits(image)
    if has_alpha(image):  # not straight to `mode`: Pillow warns of some palettes
        image = image.convert("RGBA")
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
    marks = _each_digit(ink.strength, ink.marks, target) if ink.marks else ()
    return Reading(reading.pixels, (*_ink_steps(ink), *reading.steps), _is_a_block(alone), marks)


def _written(ink: Floats, target: ImageInput) -> Reading:
    """The digit that `ink` (height, width) writes, cropped to it."""
    strength, changed = _adjust_pen(ink)
    room = round(DIGIT_SHARE * min(target.width, target.height))
    canvas = _centre_mass(_fit_into(strength, room), target)
    size = f"{target.width}x{target.height}"
    scaled = f"scaled to fit {room}x{room}"
    return Reading(canvas, ("cropped to the ink", *changed, scaled, f"centred by mass in {size}"))


def _each_digit(ink: Floats, marks: Marks, target: ImageInput) -> tuple[Reading, ...]:
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
    """A colour photograph made square: cropped around the middle a little, squeezed for the rest.

    The data sets' own pictures were made so that objects fill the frame, hence no borders.
    """
    steps: Steps = []
    if has_alpha(image):
        rgba = eight_bits(image).convert("RGBA")
        image = Image.new("RGB", image.size, "white")
        image.paste(rgba, mask=rgba.getchannel("A"))
        steps.append("flattened transparency onto white")
    image = eight_bits(image).convert("L" if target.channels == 1 else "RGB")
    size = target.width, target.height
    if image.size == size:
        return Reading(to_array(image), (*steps, UNCHANGED))
    across = min(image.width, _kept(image.width, image.height * size[0] / size[1]))
    down = min(image.height, _kept(image.height, image.width * size[1] / size[0]))
    left, top = (image.width - across) / 2, (image.height - down) / 2
    if (across, down) != image.size:
        # In the picture's own pixels, of which a large JPEG is read at a part.
        own = image.info.get(OWN_SIZE, image.size)
        wide, tall = own[0] * across / image.width, own[1] * down / image.height
        steps.append(f"cropped to the middle {round(wide)}x{round(tall)}")
    image = image.resize(
        size, Image.Resampling.BICUBIC, (left, top, left + across, top + down), reducing_gap=3.0
    )
    return Reading(to_array(image), (*steps, f"resized to {size[0]}x{size[1]}"))


def _kept(side: int, square: float) -> float:
    """How much of `side` stays where `square` of it would keep the proportions."""
    return min(max(square, (1 - MOST_CROPPED) * side), MOST_SQUEEZED * square)


def as_in_mnist(image: Image.Image) -> Reading | None:
    """A picture of the network's size with a centred light digit, or its negative, as it is.

    Every one of MNIST's 70,000 images is known by this. It works on bytes: most requests pass here.
    """
    grey = grey_bytes(image)
    if grey is None:
        return None
    edge = np.concatenate((grey[0], grey[-1], grey[:, 0], grey[:, -1]))
    light = np.count_nonzero(edge > 127) > edge.size / 2
    if light:
        grey, edge = 255 - grey, 255 - edge
    # Some hundred of MNIST's own digits touch the edge, by a few pixels.
    if np.count_nonzero(edge > 33) > 8:
        return None
    height, width = grey.shape
    rows, columns = np.flatnonzero(grey.max(1) > 33), np.flatnonzero(grey.max(0) > 33)
    if not len(rows) or grey.max() < 128:
        return None
    longest = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    if not 0.45 * height < longest < 0.85 * height:
        return None
    down, across = grey.sum(1, dtype=np.int64), grey.sum(0, dtype=np.int64)
    y = np.arange(height).dot(down) / down.sum() - height / 2
    x = np.arange(width).dot(across) / down.sum() - width / 2
    if abs(x) > 0.8 or abs(y) > 0.8:
        return None
    pixels = unit(grey)
    marks: tuple[Reading, ...] = ()
    if len(columns) <= columns[-1] - columns[0]:  # a gap from top to bottom
        target = ImageInput(height, width, 1, "digit", (0,), (1,))
        marks = _each_digit(pixels[..., 0], find_marks(grey > 33), target)
    return Reading(pixels, (INVERTED, UNCHANGED) if light else (UNCHANGED,), marks=marks)


def as_in_fashion_mnist(image: Image.Image) -> Reading | None:
    """A picture of the network's size that a garment fills, on black or white, as it is."""
    grey = grey_bytes(image)
    if grey is None:
        return None
    light = _filled_by_a_garment(grey, 0, corners=2)
    if light is None:
        return None
    if light:
        framed = _ground(grey[1:-1, 1:-1], corners=3) is False  # white, and what it frames is black
        return Reading(unit(255 - grey), (INVERTED, UNCHANGED), doubtful=framed)
    return Reading(unit(grey), (UNCHANGED,))


def larger_fashion_mnist(pixels: Floats, target: ImageInput) -> Reading | None:
    """A square picture that a garment fills, on black or white, at the network's size."""
    height, width = pixels.shape[:2]
    if abs(height - width) > MOST_OBLONG * max(height, width):
        return None
    few = luma(pixels[:: max(1, height // _FEW), :: max(1, width // _FEW)])
    ground = float(np.median((few[0, 0], few[0, -1], few[-1, 0], few[-1, -1])))
    rows, columns = box(np.abs(few - ground) > RINGING / 255)
    if max(rows.stop - rows.start, columns.stop - columns.start) < 0.85 * min(few.shape):
        return None  # as most that are not filled are seen to be at a glance
    grey = luma(pixels)
    missing = target.height - height, target.width - width
    if 0 < max(missing) <= 2:  # without a frame of one pixel
        small, step = np.pad(grey, [(side // 2, side - side // 2) for side in missing], "edge"), ""
    else:
        small, step = _undo_enlargement(grey, target)
    light = _filled_by_a_garment((small * 255 + 0.5).astype(np.uint8), RINGING, corners=3)
    if light is None:
        return None
    steps = (*[INVERTED] * light, FILLED, step or f"completed to {target.width}x{target.height}")
    return Reading((1 - small if light else small)[..., None], steps)


def _undo_enlargement(grey: Floats, target: ImageInput) -> tuple[Floats, str]:
    """`grey` at the network's size, and what was done: exactly, if it was smoothly enlarged.

    The values in the middle of each pixel's square are then still those of before.
    """
    times = 3
    fine = _squeeze(grey, target, times)
    middles = np.ascontiguousarray(fine[times // 2 :: times, times // 2 :: times])
    again = Image.fromarray(middles).resize(fine.shape[::-1], Image.Resampling.BICUBIC)
    size = f"{target.width}x{target.height}"
    if np.sqrt(np.mean((np.asarray(again) - fine) ** 2)) < ENLARGED:
        return middles, f"reduced to the {size} that it was enlarged from"
    return _squeeze(grey, target), f"scaled to {size}"


def as_it_is(pixels: Floats, target: ImageInput) -> Reading:
    """The whole picture at the network's size; as a negative where its edges are light.

    Raises RequestError 422 `no_content` where nothing lighter lies on a dark ground.
    """
    grey = luma(pixels)
    light = float(np.median(margin(grey))) > 0.5
    if light:
        grey = 1 - grey
    height, width = grey.shape
    side = max(height, width)
    square = np.zeros((side, side), np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = grey
    small = _squeeze(square, target)
    edge = float(np.quantile(margin(small), 0.75))
    if edge > LIGHTEST_EDGE or small.max() < edge + FAINTEST_AS_IT_IS:
        raise blank()
    return Reading(
        small[..., None], (*[INVERTED] * light, f"scaled to {target.width}x{target.height}")
    )


def _filled_by_a_garment(grey: NDArray[np.uint8], black: int, corners: int) -> bool | None:
    """Whether `grey` is a negative, if a garment fills it as in Fashion-MNIST; else None.

    So many `corners` must be ground: a sleeve may lie in the others. Whatever is not above `black`
    is ground too.
    """
    light = _ground(grey, corners)
    if light is None:
        return None
    if light:
        grey = 255 - grey
    if grey.max() < 13:
        return None
    rows, columns = np.flatnonzero(grey.max(1) > black), np.flatnonzero(grey.max(0) > black)
    longest = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    return None if longest < min(grey.shape) - 2 else light


def _ground(grey: NDArray[np.uint8], corners: int) -> bool | None:
    """Whether so many `corners` are white, or else black: False; None for neither."""
    shades = sorted((grey[0, 0], grey[0, -1], grey[-1, 0], grey[-1, -1]))
    if shades[1] > 38 and shades[-corners] > 217:
        return True
    return False if shades[corners - 1] <= 38 else None


def _squeeze(grey: Floats, target: ImageInput, times: int = 1) -> Floats:
    """(height, width) at `times` the network's size, as sharp as may be."""
    size = times * target.width, times * target.height
    small = Image.fromarray(np.ascontiguousarray(grey)).resize(size, Image.Resampling.LANCZOS)
    return np.clip(np.asarray(small, np.float32), 0, 1)


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
