"""Conversion of picture modes (16 bits, palettes, CMYK, transparency) to arrays in 0..1."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.images.grids import Floats, box

# Large pictures are converted in strips of this many pixels, since a copy of 50 megapixels takes
# hundreds of MiB.
_STRIP = 1_000_000

_REDUCING_GAP = 3.0  # Pillow reduces by the mean first, to this many times the final size


def on_paper(image: Image.Image, longest: int) -> tuple[Floats, list[str]]:
    """Return `image` as an opaque array (height, width, 1 or 3) in 0..1, and the steps taken.

    Neither side is above `longest`.
    """
    image = reduced(image, longest)
    image, steps = _flatten(image) if image.mode == "RGBA" else (image, [])
    return to_array(image), steps


def reduced(image: Image.Image, longest: int, turn: Image.Transpose | None = None) -> Image.Image:
    """Return `image` turned, as "L", "RGB" or "RGBA", with neither side above `longest`."""
    factor = -(-max(image.size) // longest)
    if factor == 1 or image.width * image.height <= _STRIP:
        image = plain(image if turn is None else image.transpose(turn))
        return image.reduce(factor) if factor > 1 else image
    white = _white(image)
    whole = (0, 0, *turned_size(image.size, turn))
    return _reduce_in_strips(image, factor, factor, whole, lambda strip: plain(strip, white), turn)


def opaque(image: Image.Image, mode: str, white: float | None = None) -> Image.Image:
    """Return `image` on white, as "L" or "RGB"."""
    if image.mode == mode and not has_alpha(image):  # most images
        return image
    image = plain(image, white)
    if image.mode == "RGBA":
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image, mask=image.getchannel("A"))
        image = flat
    return image if image.mode == mode else image.convert(mode)


def scaled(
    image: Image.Image, mode: str, size: tuple[int, int], box: tuple[float, float, float, float]
) -> Image.Image:
    """Return `opaque(image, mode).resize(size, BICUBIC, box, reducing_gap=3.0)`.

    Large pictures are converted in strips.
    """
    bicubic = Image.Resampling.BICUBIC
    left, top, right, bottom = box
    across, down = (right - left) / size[0], (bottom - top) / size[1]
    x, y = int(across / _REDUCING_GAP) or 1, int(down / _REDUCING_GAP) or 1
    if (x, y) == (1, 1) or image.width * image.height <= _STRIP:
        return opaque(image, mode).resize(size, bicubic, box, reducing_gap=_REDUCING_GAP)
    beyond = 1.5  # the bicubic filter reads this many pixels of the result beyond the box
    area = (
        max(0, int(left - beyond * across)),
        max(0, int(top - beyond * down)),
        min(image.width, math.ceil(right + beyond * across)),
        min(image.height, math.ceil(bottom + beyond * down)),
    )
    white = _white(image)
    image = _reduce_in_strips(image, x, y, area, lambda strip: opaque(strip, mode, white))
    box = (left - area[0]) / x, (top - area[1]) / y, (right - area[0]) / x, (bottom - area[1]) / y
    return image.resize(size, bicubic, box)


def _reduce_in_strips(
    image: Image.Image,
    x: int,
    y: int,
    area: tuple[int, int, int, int],
    convert: Callable[[Image.Image], Image.Image],
    turn: Image.Transpose | None = None,
) -> Image.Image:
    """Return `convert(image.transpose(turn)).reduce((x, y), area)`, without copies of the whole."""
    left, top, right, bottom = area
    height = y * max(1, _STRIP // ((right - left) * y))
    result = None
    for row in range(top, bottom, height):
        strip = convert(_upright_strip(image, turn, row, min(row + height, bottom)))
        small = strip.reduce((x, y), (left, 0, right, strip.height))
        if result is None:
            result = Image.new(small.mode, (small.width, -(-(bottom - top) // y)))
        result.paste(small, (0, (row - top) // y))
    assert result is not None
    return result


def plain(image: Image.Image, white: float | None = None) -> Image.Image:
    """Return `image` in 8 bits as "L" or "RGB", or as "RGBA" if parts may be transparent."""
    alpha = has_alpha(image)
    image = eight_bits(image, white)
    mode = "RGBA" if alpha else "L" if image.mode in ("1", "L") else "RGB"
    return image if image.mode == mode else image.convert(mode)


# For each turn, where the rows of the turned picture are in the file: whether they are its columns,
# and whether they are counted from its end.
_ROWS = {
    None: (False, False),
    Image.Transpose.FLIP_LEFT_RIGHT: (False, False),
    Image.Transpose.ROTATE_180: (False, True),
    Image.Transpose.FLIP_TOP_BOTTOM: (False, True),
    Image.Transpose.TRANSPOSE: (True, False),
    Image.Transpose.ROTATE_270: (True, False),
    Image.Transpose.TRANSVERSE: (True, True),
    Image.Transpose.ROTATE_90: (True, True),
}


def turned_size(size: tuple[int, int], turn: Image.Transpose | None) -> tuple[int, int]:
    """Return the (width, height) that a picture of `size` has once it is turned."""
    return size[::-1] if _ROWS[turn][0] else size


def _upright_strip(
    image: Image.Image, turn: Image.Transpose | None, first: int, last: int
) -> Image.Image:
    """Return the rows `first` to `last` (exclusive) of `image` turned."""
    columns, from_end = _ROWS[turn]
    side = image.width if columns else image.height
    if from_end:
        first, last = side - last, side - first
    area = (first, 0, last, image.height) if columns else (0, first, image.width, last)
    strip = image.crop(area)
    return strip if turn is None else strip.transpose(turn)


def to_array(image: Image.Image) -> Floats:
    """Return an "L" or "RGB" picture as (height, width, channels) in 0..1."""
    return unit(_bytes_of(image))


def unit(array: NDArray[np.uint8]) -> Floats:
    """Return an array of 0..255, with or without channels, as (height, width, channels) in 0..1."""
    values = np.divide(array, np.float32(255), dtype=np.float32)
    return values if values.ndim == 3 else values[..., None]


def _bytes_of(image: Image.Image) -> NDArray[np.uint8]:
    """Return an "L" or "RGB" picture as (height, width) or (height, width, 3)."""
    # np.asarray takes longer for small pictures.
    channels = (3,) if image.mode == "RGB" else ()
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, *channels)


def grey_bytes(image: Image.Image) -> NDArray[np.uint8] | None:
    """Return `image` as (height, width) in 0..255, or None if it has colour or transparency."""
    if image.mode != "L" or "transparency" in image.info:
        if has_alpha(image):
            return None
        image = eight_bits(image)
        if image.mode not in ("L", "1"):
            colours = np.asarray(image.convert("RGB"))
            same = (colours[..., 0] == colours[..., 1]) & (colours[..., 0] == colours[..., 2])
            return colours[..., 0] if same.all() else None
        image = image.convert("L")
    return _bytes_of(image)


def has_alpha(image: Image.Image) -> bool:
    """Return whether parts of `image` may be transparent. In 16 bits this is not checked."""
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or (
        "transparency" in image.info and image.mode in ("1", "L", "P", "RGB")
    )


def eight_bits(image: Image.Image, white: float | None = None) -> Image.Image:
    """Return `image` with 8 bits a channel. Pillow's own conversion clips all values above 255.

    `white` is the full value of a picture with 32 bits a channel, of which `image` is a part.
    """
    if image.mode in ("RGBa", "La"):
        return image.convert(image.mode.upper())  # Pillow's only conversion of these modes
    if image.mode[0] not in "IF":
        return image
    if image.mode.startswith("I;16"):
        return _from_sixteen_bits(np.asarray(image))
    full = _white(image) if white is None else white
    return Image.fromarray((np.clip(_finite(image), 0, full) / full * 255 + 0.5).astype(np.uint8))


def _white(image: Image.Image) -> float:
    """Return the full value of a picture with 32 bits a channel; it has no meaning for others.

    The file does not say what white is. It is the smallest usual value that no pixel exceeds.
    """
    if image.mode not in ("I", "F"):
        return 255.0
    rows = max(1, _STRIP // image.width)
    tops = range(0, image.height, rows)
    areas = [(0, top, image.width, min(top + rows, image.height)) for top in tops]
    most = max(float(_finite(image.crop(area)).max()) for area in areas)
    return next((white for white in (1.0, 255.0, 65535.0) if most <= white), most)


def _finite(image: Image.Image) -> Floats:
    """Return `image` as (height, width), with 0 for infinity and NaN."""
    values: Floats = np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)
    return values


def _from_sixteen_bits(values: NDArray[np.uint16]) -> Image.Image:
    """Return values (height, width) in 0..65535 as "L".

    It works in parts, since numpy widens the indices into the table.
    """
    table = (np.arange(65536, dtype=np.float32) / 65535 * 255 + 0.5).astype(np.uint8)
    grey = np.empty(values.shape, np.uint8)
    for row in range(0, len(values), 64):
        grey[row : row + 64] = table[values[row : row + 64]]
    return Image.fromarray(grey)


def _flatten(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Return an "RGBA" picture as "RGB" on a ground on which its content shows, and the steps."""
    alpha = image.getchannel("A")
    colour = image.convert("RGB")
    solid = np.asarray(alpha) > 127
    if solid.all() and alpha.getextrema() == (255, 255):
        return colour, []
    if not solid.any():
        return Image.new("RGB", image.size, "white"), ["flattened transparency onto white"]
    light = np.asarray(colour.convert("L"))[solid]
    filled = solid.sum() / solid[box(solid)].size
    if filled > 0.6 and np.mean(np.abs(light - np.median(light)) > 50) > 0.02:
        # An icon or a sticker: the content is drawn on the opaque part, so its colour is the
        # ground.
        red, green, blue = np.median(np.asarray(colour)[solid], axis=0)
        paper, name = (int(red), int(green), int(blue)), "its own colour"
    elif light.mean() > 127:
        paper, name = (0, 0, 0), "black"
    else:
        paper, name = (255, 255, 255), "white"
    flat = Image.new("RGB", image.size, paper)
    flat.paste(colour, mask=alpha)
    return flat, [f"flattened transparency onto {name}"]
