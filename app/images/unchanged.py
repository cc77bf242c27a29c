"""Pictures that are taken as they are: as their data set stores them, enlarged, or otherwise.

A picture that already is as in MNIST or Fashion-MNIST passes unchanged.
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

# A picture whose sides differ by more than this share is not one of the data set's, enlarged.
MOST_OBLONG = 0.03
# What was enlarged from the network's size is so near, of 1, to its own smooth enlargement.
ENLARGED = 0.025
# Enlarging and reducing leaves ripples of up to so much, of 255, on a black ground.
RINGING = 12
# Of a picture that a garment fills, at least this share is ground.
DARKEST = 0.02
# ... and what differs from it by less than this, of 1, is as well.
ALIKE = 0.03
# Of the edge, at least so many times as much is ground as is the opposite of it.
MOST_OTHER = 0.5
# A garment differs from the ground by this, of 1, and fills a picture if it goes from edge to edge.
CLOTH = 0.15
NEAR_EDGE = 0.04
_FEW = 32  # a glance at a picture takes in at least so many pixels a side
# Of a picture that is taken as it is, three quarters of the edge are darker than this, of 1 ...
LIGHTEST_EDGE = 0.35
# ... and something is lighter than them by so much.
FAINTEST_AS_IT_IS = 0.25

_NEGATIVE = bytes(255 - shade for shade in range(256))  # for bytes.translate


def as_in_mnist(image: Image.Image) -> Reading | None:
    """A picture of the network's size with a centred light digit, or its negative, as it is.

    Every one of MNIST's 70,000 images is known by this. Most requests pass here: of so few numbers
    Python knows more in a microsecond than numpy.
    """
    grey = grey_bytes(image)
    if grey is None:
        return None
    height, width = grey.shape
    shades = grey.tobytes()
    edge = shades[:width] + shades[-width:] + shades[::width] + shades[width - 1 :: width]
    light = edge.translate(_above(127)).count(1) > len(edge) / 2
    if light:
        grey, edge = 255 - grey, edge.translate(_NEGATIVE)
    # Some hundred of MNIST's own digits touch the edge, by a few pixels.
    if edge.translate(_above(33)).count(1) > 8:
        return None
    rows, columns = _lightest(grey)
    if max(rows) < 128:
        return None
    columns = columns.translate(_above(33))
    across = _span(columns)
    if not 0.45 * height < max(_span(rows.translate(_above(33))), across) < 0.85 * height:
        return None
    mass, y, x = grey.ravel().astype(np.float64).dot(_moments(height, width)).tolist()
    if abs(x / mass - width / 2) > 0.8 or abs(y / mass - height / 2) > 0.8:
        return None
    pixels = unit(grey)
    marks: tuple[Reading, ...] = ()
    if columns.count(1) < across:  # a gap from top to bottom
        target = ImageInput(height, width, 1, "digit", (0,), (1,))
        marks = each_digit(pixels[..., 0], find_marks(grey > 33), target)
    return Reading(pixels, (INVERTED, UNCHANGED) if light else (UNCHANGED,), marks=marks)


@lru_cache
def _above(level: int) -> bytes:
    """For bytes.translate: 1 for each shade above `level`, 0 for the others."""
    return bytes(shade > level for shade in range(256))


def _lightest(grey: NDArray[np.uint8]) -> tuple[bytes, bytes]:
    """The lightest shade of each row, and of each column."""
    return np.maximum.reduce(grey, 1).tobytes(), np.maximum.reduce(grey, 0).tobytes()


def _span(flags: bytes) -> int:
    """How many bytes there are from the first 1 to the last."""
    return flags.rfind(1) - flags.find(1) + 1


@lru_cache
def _moments(height: int, width: int) -> NDArray[np.float64]:
    """(pixels, 3): what the mass of pixels and its moments, down and across, are sums of."""
    down, across = np.indices((height, width), np.float64).reshape(2, -1)
    return np.stack((np.ones_like(down), down, across), axis=1)


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


def as_it_is(pixels: Floats, target: ImageInput) -> Reading:
    """The whole picture at the network's size; as a negative where its edges are light.

    Raises RequestError 422 `no_content` where nothing lighter lies on a dark ground.
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
    """A picture that a garment fills, of any form, on whatever is darkest (lightest) in it.

    Raises RequestError 422 `no_content` where it shows nothing or only grain.
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
        raise blank()  # what is lightest is the ground, if either is
    small = _squeeze(cloth, target)  # without the grain of a desk
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
    """`grey` in the middle of a black square."""
    height, width = grey.shape
    side = max(height, width)
    square = np.zeros((side, side), np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = grey
    return square


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
    sides = _lightest(grey)
    if max(sides[0]) < 13:
        return None
    longest = max(_span(side.translate(_above(black))) for side in sides)
    return None if longest < min(grey.shape) - 2 else light


def _ground(grey: NDArray[np.uint8], corners: int) -> bool | None:
    """Whether so many `corners` are white, or else black: False; None for neither."""
    shades = sorted(int(grey[place]) for place in ((0, 0), (0, -1), (-1, 0), (-1, -1)))
    if shades[1] > 38 and shades[-corners] > 217:
        return True
    return False if shades[corners - 1] <= 38 else None


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


def _squeeze(grey: Floats, target: ImageInput, times: int = 1) -> Floats:
    """(height, width) at `times` the network's size, as sharp as may be."""
    size = times * target.width, times * target.height
    small = Image.fromarray(np.ascontiguousarray(grey)).resize(size, Image.Resampling.LANCZOS)
    return np.clip(np.asarray(small, np.float32), 0, 1)
