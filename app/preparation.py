"""How pictures of each style are prepared: `STYLES` names them as model cards do.

Each function takes an upright picture and gives the network's array with words for what it did.
Digits follow LeCun, Cortes and Burges' description of MNIST, garments Xiao, Rasul and Vollgraf's
of Fashion-MNIST (2017); a picture that already is as in the data set passes unchanged.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

from app.ink import Floats, Ink, box, find_ink, luma
from app.pixels import eight_bits, grey_bytes, has_alpha, on_paper, opaque, scaled, to_array, unit
from models.cards import ImageInput, Style

Steps = list[str]

# Looking for content happens at no more than this many times the network's size.
WORKING = 12

# Styles that look at every pixel of a picture of any size.
LOOK_AT_ALL: tuple[Style, ...] = ("photo",)

# MNIST's digits fill 20 of 28 pixels, and their strokes are 2 to 3 of the 20 wide.
DIGIT_SHARE = 20 / 28
THINNEST, THICKEST = 0.09, 0.21  # shares of the longer side

# A photograph gives at most this share of its longer side to become square ...
MOST_CROPPED = 0.25
# ... and what is left is squeezed by at most this much; panoramas are cropped further.
MOST_SQUEEZED = 4 / 3

UNCHANGED = "already as in the data set: unchanged"
INVERTED = "inverted (dark ink on light paper)"


def looked_at(target: ImageInput) -> int:
    """The most pixels a side that a style other than those of LOOK_AT_ALL looks at."""
    return WORKING * max(target.width, target.height)


def raw(image: Image.Image, target: ImageInput) -> tuple[Floats, Steps]:
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
    return to_array(image), steps


def digit(image: Image.Image, target: ImageInput) -> tuple[Floats, Steps]:
    """Light ink on black: the digit's longer side on 20 of 28 pixels, centred by its mass."""
    if image.size == (target.width, target.height):
        exact = _as_in_mnist(image)
        if exact is not None:
            return exact
    pixels, steps = on_paper(image, looked_at(target))
    ink = find_ink(pixels, tidy=True)
    steps += _ink_steps(ink)
    strength = ink.strength[box(ink.strength > 0.25)]
    steps.append("cropped to the ink")
    strength, changed = _adjust_pen(strength)
    steps += changed
    room = round(DIGIT_SHARE * min(target.width, target.height))
    small = _fit_into(strength, room)
    steps.append(f"scaled to fit {room}x{room}")
    rows, columns = np.arange(small.shape[0]), np.arange(small.shape[1])
    mass = small.sum()
    middle = (small.sum(1) @ rows) / mass, (small.sum(0) @ columns) / mass
    canvas = _place(small, middle, target)
    steps.append(f"centred by mass in {target.width}x{target.height}")
    return canvas, steps


def garment(image: Image.Image, target: ImageInput) -> tuple[Floats, Steps]:
    """Light cloth on black: trimmed, the longer side on all 28 pixels, centred."""
    if image.size == (target.width, target.height):
        exact = _as_in_fashion_mnist(image)
        if exact is not None:
            return exact
    pixels, steps = on_paper(image, looked_at(target))
    # A sandal is many marks, and none of them dust.
    ink = find_ink(pixels, tidy=False)
    steps += _ink_steps(ink)
    where = box(ink.strength > 0.05)  # the authors' threshold
    # The cloth keeps its own shades: how light it is, counted from the paper it lies on.
    light, paper = luma(pixels), ink.paper
    cloth = (paper - light) / (paper + 1e-3) if ink.dark else (light - paper) / (1.001 - paper)
    cloth = np.where(ink.strength > 0, np.clip(cloth, 0, 1), 0).astype(np.float32)[where]
    steps.append("cropped to the object")
    small = _fit_into(cloth, min(target.width, target.height), peak=False)
    steps.append(f"scaled to fit {target.width}x{target.height}")
    middle = small.shape[0] / 2, small.shape[1] / 2
    return _place(small, middle, target), [*steps, "centred"]


def photo(image: Image.Image, target: ImageInput) -> tuple[Floats, Steps]:
    """A colour photograph made square: cropped around the middle a little, squeezed for the rest.

    The data sets' own pictures were made so that objects fill the frame, hence no borders.
    """
    steps: Steps = ["flattened transparency onto white"] if has_alpha(image) else []
    mode = "L" if target.channels == 1 else "RGB"
    size = target.width, target.height
    if image.size == size:
        return to_array(opaque(image, mode)), [*steps, UNCHANGED]
    across = min(image.width, _kept(image.width, image.height * size[0] / size[1]))
    down = min(image.height, _kept(image.height, image.width * size[1] / size[0]))
    left, top = (image.width - across) / 2, (image.height - down) / 2
    if (across, down) != image.size:
        steps.append(f"cropped to the middle {round(across)}x{round(down)}")
    image = scaled(image, mode, size, (left, top, left + across, top + down))
    return to_array(image), [*steps, f"resized to {size[0]}x{size[1]}"]


STYLES: dict[Style, Callable[[Image.Image, ImageInput], tuple[Floats, Steps]]] = {
    "digit": digit,
    "garment": garment,
    "photo": photo,
}


def _kept(side: int, square: float) -> float:
    """How much of `side` stays where `square` of it would keep the proportions."""
    return min(max(square, (1 - MOST_CROPPED) * side), MOST_SQUEEZED * square)


def _as_in_mnist(image: Image.Image) -> tuple[Floats, Steps] | None:
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
    return unit(grey), [INVERTED, UNCHANGED] if light else [UNCHANGED]


def _as_in_fashion_mnist(image: Image.Image) -> tuple[Floats, Steps] | None:
    """A picture of the network's size that a garment fills, on black or white, as it is."""
    grey = grey_bytes(image)
    if grey is None:
        return None
    corners = sorted((grey[0, 0], grey[0, -1], grey[-1, 0], grey[-1, -1]))
    light = corners[1] > 38 and corners[2] > 217  # a sleeve may lie in two of them
    if light:
        grey = 255 - grey
    elif corners[1] > 38:
        return None
    rows, columns = np.flatnonzero(grey.max(1)), np.flatnonzero(grey.max(0))
    if grey.max() < 13:
        return None
    longest = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    if longest < min(grey.shape) - 2:
        return None
    return unit(grey), [INVERTED, UNCHANGED] if light else [UNCHANGED]


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


def _place(small: Floats, middle: tuple[float, float], target: ImageInput) -> Floats:
    """`small` on black, with the point `middle` (row, column) of it in the centre if it fits so."""
    canvas = np.zeros((target.height, target.width, 1), np.float32)
    top = round(target.height / 2 - middle[0])
    left = round(target.width / 2 - middle[1])
    top = min(max(top, 0), target.height - small.shape[0])
    left = min(max(left, 0), target.width - small.shape[1])
    canvas[top : top + small.shape[0], left : left + small.shape[1], 0] = small
    return canvas
