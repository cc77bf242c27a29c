"""Pictures that are taken as they are: in the form of their data set, enlarged, or as a whole.

A picture that has the form of MNIST or Fashion-MNIST already is not changed.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.images.grids import Floats, box, luma, margin
from app.images.ink import blank
from app.images.marks import find_marks
from app.images.paper import is_all
from app.images.styles import INVERTED, UNCHANGED, Reading, each_digit
from models.cards import ImageInput
from models.pictures import grey_bytes, unit

FILLED = "already as in the data set, but larger"

# If the sides differ by more than this share, the picture is not an enlarged one of the data set.
MOST_OBLONG = 0.03
# The largest difference, of 1, between an enlarged picture and a smooth enlargement of its
# reduction.
ENLARGED = 0.025
# Enlarging and reducing leaves ripples of up to this much, of 255, on a black ground.
RINGING = 12
# At least this share of a picture that a garment fills is ground, ...
DARKEST = 0.02
# ... with all pixels that differ from the ground by less than this, of 1.
ALIKE = 0.03
# The ground takes at least this many times as much of the edge as its opposite does.
MOST_OTHER = 0.5
# A garment differs from the ground by this, of 1, and fills a picture if it goes from edge to edge.
CLOTH = 0.15
NEAR_EDGE = 0.04
_FEW = 32  # a first check of a picture samples at least this many pixels a side
# If a picture is taken as it is, three quarters of its edge are darker than this, of 1, ...
LIGHTEST_EDGE = 0.35
# ... and its lightest pixel is lighter than them by at least this.
FAINTEST_AS_IT_IS = 0.25

_NEGATIVE = bytes(255 - shade for shade in range(256))  # for bytes.translate


def as_in_mnist(image: Image.Image) -> Reading | None:
    """Return a centred light digit of the network's size, or its negative, unchanged.

    Return None for other pictures. All 70,000 images of MNIST are recognised. Most requests pass
    here, and for so few numbers bytes are faster than numpy.
    """
    grey = grey_bytes(image)
    if grey is None:
        return None
    height, width = grey.shape
    shades = grey.tobytes()
    edge = shades[:width] + shades[-width:] + shades[::width] + shades[width - 1 :: width]
    light = edge.translate(_above(127)).count(1) > len(edge) / 2
    if light:
        grey, edge, shades = 255 - grey, edge.translate(_NEGATIVE), shades.translate(_NEGATIVE)
    # About a hundred of MNIST's own digits touch the edge with a few pixels.
    if edge.translate(_above(33)).count(1) > 8:
        return None
    lightest = np.maximum.reduce(grey, 0).tobytes()  # of each column
    if max(lightest) < 128:
        return None
    ink, columns = shades.translate(_above(33)), lightest.translate(_above(33))
    down, across = ink.rfind(1) // width - ink.find(1) // width + 1, _span(columns)
    if not 0.45 * height < max(down, across) < 0.85 * height:
        return None
    mass, y, x = grey.ravel().astype(np.float64).dot(_moments(height, width)).tolist()
    if abs(x / mass - width / 2) > 0.8 or abs(y / mass - height / 2) > 0.8:
        return None
    pixels = unit(grey)
    marks: tuple[Reading, ...] = ()
    if columns.count(1) < across:  # an empty column between two marks
        target = ImageInput(height, width, 1, "digit", (0,), (1,))
        marks = each_digit(pixels[..., 0], find_marks(grey > 33), target)
    return Reading(pixels, (INVERTED, UNCHANGED) if light else (UNCHANGED,), marks=marks)


@lru_cache
def _above(level: int) -> bytes:
    """Return a table for bytes.translate: 1 for each shade above `level`, 0 for the others."""
    return bytes(shade > level for shade in range(256))


def _lightest(grey: NDArray[np.uint8]) -> tuple[bytes, bytes]:
    """Return the lightest shade of each row, and of each column."""
    return np.maximum.reduce(grey, 1).tobytes(), np.maximum.reduce(grey, 0).tobytes()


def _span(flags: bytes) -> int:
    """Return the number of bytes from the first 1 to the last."""
    return flags.rfind(1) - flags.find(1) + 1


@lru_cache
def _moments(height: int, width: int) -> NDArray[np.float64]:
    """Return the weights (pixels, 3) whose sums are the mass and its moments down and across."""
    down, across = np.indices((height, width), np.float64).reshape(2, -1)
    return np.stack((np.ones_like(down), down, across), axis=1)


def as_in_fashion_mnist(image: Image.Image) -> Reading | None:
    """Return a picture of the network's size that a garment fills, on black or white, unchanged.

    Return None for other pictures.
    """
    grey = grey_bytes(image)
    if grey is None:
        return None
    light = _filled_by_a_garment(grey, 0, corners=2)
    if light is None:
        return None
    if light:
        framed = _ground(grey[1:-1, 1:-1], corners=3) is False  # a white frame around black
        return Reading(unit(255 - grey), (INVERTED, UNCHANGED), doubtful=framed)
    return Reading(unit(grey), (UNCHANGED,))


def larger_fashion_mnist(pixels: Floats, target: ImageInput) -> Reading | None:
    """Return a square picture that a garment fills, on black or white, at the network's size.

    Return None for other pictures.
    """
    height, width = pixels.shape[:2]
    if abs(height - width) > MOST_OBLONG * max(height, width):
        return None
    few = luma(pixels[:: max(1, height // _FEW), :: max(1, width // _FEW)])
    ground = float(np.median((few[0, 0], few[0, -1], few[-1, 0], few[-1, -1])))
    rows, columns = box(np.abs(few - ground) > RINGING / 255)
    if max(rows.stop - rows.start, columns.stop - columns.start) < 0.85 * min(few.shape):
        return None  # this first check excludes most pictures that no garment fills
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


def as_it_is(pixels: Floats, target: ImageInput) -> Reading:
    """Return the whole picture at the network's size, as a negative if its edges are light.

    Raises RequestError 422 `no_content` if it shows nothing lighter on a dark ground.
    """
    grey = luma(pixels)
    light = float(np.median(margin(grey))) > 0.5
    if light:
        grey = 1 - grey
    small = _squeeze(_square(grey), target)
    edge = float(np.quantile(margin(small), 0.75))
    own_edge = float(np.quantile(margin(grey), 0.75))
    if max(edge, own_edge) > LIGHTEST_EDGE or small.max() < edge + FAINTEST_AS_IT_IS:
        raise blank()
    return Reading(
        small[..., None], (*[INVERTED] * light, f"scaled to {target.width}x{target.height}")
    )


def filled(pixels: Floats, target: ImageInput, *, light: bool) -> Reading:
    """Return a picture that a garment fills; its darkest (`light`: lightest) level is the ground.

    Raises RequestError 422 `no_content` if it shows nothing, or only noise.
    """
    grey = luma(pixels)
    if light:
        grey = 1 - grey
    ground, most = (float(level) for level in np.quantile(grey, (DARKEST, 1 - DARKEST)))
    cloth = np.clip((grey - ground) / (1.001 - ground), 0, 1)
    if is_all(cloth[..., None]):
        raise blank()
    edge = margin(grey)
    own, other = (np.count_nonzero(far < ALIKE) for far in (edge - ground, most - edge))
    if own == 0 or own < MOST_OTHER * other:
        raise blank()  # if the edge is ground at all, then the lightest level is the ground
    small = _squeeze(cloth, target)  # scaling removes the grain of a desk
    where = box(small > CLOTH)
    if not any(
        side.start <= NEAR_EDGE * length and side.stop >= (1 - NEAR_EDGE) * length
        for side, length in zip(where, small.shape, strict=True)
    ):
        raise blank()
    steps = np.abs(np.diff(small, axis=0)).mean() + np.abs(np.diff(small, axis=1)).mean()
    if float(np.ptp(small)) < FAINTEST_AS_IT_IS or steps > float(small.std()):
        raise blank()
    whole = _squeeze(_square(cloth), target)
    return Reading(
        whole[..., None], (*[INVERTED] * light, f"scaled to {target.width}x{target.height}")
    )


def _square(grey: Floats) -> Floats:
    """Return `grey` in the middle of a black square."""
    height, width = grey.shape
    side = max(height, width)
    square = np.zeros((side, side), np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = grey
    return square


def _filled_by_a_garment(grey: NDArray[np.uint8], black: int, corners: int) -> bool | None:
    """Return whether `grey` is a negative, or None if no garment fills it as in Fashion-MNIST.

    As many `corners` must be ground, since a sleeve may lie in the others. Pixels up to `black` are
    ground too.
    """
    light = _ground(grey, corners)
    if light is None:
        return None
    if light:
        grey = 255 - grey
    sides = _lightest(grey)
    if max(sides[0]) < 13:
        return None
    longest = max(_span(side.translate(_above(black))) for side in sides)
    return None if longest < min(grey.shape) - 2 else light


def _ground(grey: NDArray[np.uint8], corners: int) -> bool | None:
    """Return True if this many `corners` are white, False if they are black, None for neither."""
    shades = sorted(int(grey[place]) for place in ((0, 0), (0, -1), (-1, 0), (-1, -1)))
    if shades[1] > 38 and shades[-corners] > 217:
        return True
    return False if shades[corners - 1] <= 38 else None


def _undo_enlargement(grey: Floats, target: ImageInput) -> tuple[Floats, str]:
    """Return `grey` at the network's size, and the step taken.

    A smooth enlargement is undone exactly: the values in the middle of each pixel's square are
    still the original ones.
    """
    times = 3
    fine = _squeeze(grey, target, times)
    middles = np.ascontiguousarray(fine[times // 2 :: times, times // 2 :: times])
    again = Image.fromarray(middles).resize(fine.shape[::-1], Image.Resampling.BICUBIC)
    size = f"{target.width}x{target.height}"
    if np.sqrt(np.mean((np.asarray(again) - fine) ** 2)) < ENLARGED:
        return middles, f"reduced to the {size} that it was enlarged from"
    return _squeeze(grey, target), f"scaled to {size}"


def _squeeze(grey: Floats, target: ImageInput, times: int = 1) -> Floats:
    """Return `grey` (height, width) at `times` the network's size, as sharp as possible."""
    size = times * target.width, times * target.height
    small = Image.fromarray(np.ascontiguousarray(grey)).resize(size, Image.Resampling.LANCZOS)
    return np.clip(np.asarray(small, np.float32), 0, 1)
