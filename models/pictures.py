"""From picture files as Pillow reads them to arrays: modes, transparency, and the size of a photo.

The service prepares what people send by these functions, and `data add` what a network learns from:
so both see the same. Files have 16 bits, palettes, CMYK, transparency; arrays are in 0..1.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.cards import ImageInput

Floats = NDArray[np.float32]

# A JPEG is read at no less than this many times the network's sides: preparation crops and
# centres, and needs more pixels than the network.
OVERSIZE = 8

# A photograph gives at most this share of its longer side to become square ...
MOST_CROPPED = 0.25
# ... and what is left is squeezed by at most this much; panoramas are cropped further.
MOST_SQUEEZED = 4 / 3

# A large picture is converted in strips of so many pixels: a whole copy, or two, of 50 megapixels
# would take a few hundred MiB.
_STRIP = 1_000_000

_REDUCING_GAP = 3.0  # Pillow's word for how much it scales by the mean, before the better filter


def on_paper(image: Image.Image, longest: int) -> tuple[Floats, list[str]]:
    """(height, width, 1 or 3) in 0..1, opaque, with neither side above `longest`."""
    image = reduced(image, longest)
    image, steps = _flatten(image) if image.mode == "RGBA" else (image, [])
    return to_array(image), steps


def reduced(image: Image.Image, longest: int, turn: Image.Transpose | None = None) -> Image.Image:
    """`image` turned, as plain "L", "RGB" or "RGBA", with neither side above `longest`."""
    factor = -(-max(image.size) // longest)
    if factor == 1 or image.width * image.height <= _STRIP:
        image = plain(image if turn is None else image.transpose(turn))
        return image.reduce(factor) if factor > 1 else image
    white = _white(image)
    whole = (0, 0, *turned_size(image.size, turn))
    return _reduce_in_strips(image, factor, factor, whole, lambda strip: plain(strip, white), turn)


def photo(image: Image.Image, target: ImageInput) -> tuple[Image.Image, tuple[float, float]]:
    """`image` as plain "L" or "RGB" of the size of `target`, and the (width, height) used of it.

    Where its proportions are others, `target.resize` says what happens: "crop" takes the largest
    part in the middle that has them, "pad" adds black, "stretch" changes them, and "fit" crops a
    little and stretches for the rest. Transparent parts become white.
    """
    mode = "L" if target.channels == 1 else "RGB"
    size = width, height = target.width, target.height
    if image.size == size:
        return opaque(image, mode), size
    if target.resize == "pad":
        scale = min(width / image.width, height / image.height)
        inner = max(1, round(scale * image.width)), max(1, round(scale * image.height))
        padded = Image.new(mode, size)
        whole = scaled(image, mode, inner, (0, 0, *image.size))
        padded.paste(whole, ((width - inner[0]) // 2, (height - inner[1]) // 2))
        return padded, image.size
    across: float = image.width
    down: float = image.height
    square = image.height * width / height, image.width * height / width
    if target.resize == "crop":
        across, down = min(across, square[0]), min(down, square[1])
    elif target.resize == "fit":
        across, down = min(across, _kept(across, square[0])), min(down, _kept(down, square[1]))
    left, top = (image.width - across) / 2, (image.height - down) / 2
    return scaled(image, mode, size, (left, top, left + across, top + down)), (across, down)


def _kept(side: float, square: float) -> float:
    """How much of `side` stays where `square` of it would keep the proportions."""
    return min(max(square, (1 - MOST_CROPPED) * side), MOST_SQUEEZED * square)


def opaque(image: Image.Image, mode: str, white: float | None = None) -> Image.Image:
    """`image` on white, as plain "L" or "RGB"."""
    if image.mode == mode and not has_alpha(image):  # most are so
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
    """`opaque(image, mode).resize(size, BICUBIC, box, reducing_gap=3.0)`, in strips where large."""
    bicubic = Image.Resampling.BICUBIC
    left, top, right, bottom = box
    across, down = (right - left) / size[0], (bottom - top) / size[1]
    x, y = int(across / _REDUCING_GAP) or 1, int(down / _REDUCING_GAP) or 1
    if (x, y) == (1, 1) or image.width * image.height <= _STRIP:
        return opaque(image, mode).resize(size, bicubic, box, reducing_gap=_REDUCING_GAP)
    beyond = 1.5  # pixels of the result that its edges look at, on each side
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
    """`convert(image.transpose(turn)).reduce((x, y), area)`, without the copies."""
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
    """`image` as "L", "RGB" or, where parts may be transparent, "RGBA" of eight bits."""
    alpha = has_alpha(image)
    image = eight_bits(image, white)
    mode = "RGBA" if alpha else "L" if image.mode in ("1", "L") else "RGB"
    return image if image.mode == mode else image.convert(mode)


# Where the rows of a turned picture lie in the file's: whether they are its columns, and whether
# they are counted from its end.
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
    """The rows `first` to `last` of `image` turned, the last one left out."""
    columns, from_end = _ROWS[turn]
    side = image.width if columns else image.height
    if from_end:
        first, last = side - last, side - first
    area = (first, 0, last, image.height) if columns else (0, first, image.width, last)
    strip = image.crop(area)
    return strip if turn is None else strip.transpose(turn)


def to_array(image: Image.Image) -> Floats:
    """(height, width, channels) in 0..1 from "L" or "RGB"."""
    return unit(_bytes_of(image))


def unit(array: NDArray[np.uint8]) -> Floats:
    """(height, width) or (height, width, channels) in 0..255 -> (height, width, channels), 0..1."""
    values = np.divide(array, np.float32(255), dtype=np.float32)
    return values if values.ndim == 3 else values[..., None]


def _bytes_of(image: Image.Image) -> NDArray[np.uint8]:
    """(height, width) or (height, width, 3) from "L" or "RGB"; np.asarray takes longer."""
    channels = (3,) if image.mode == "RGB" else ()
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, *channels)


def grey_bytes(image: Image.Image) -> NDArray[np.uint8] | None:
    """(height, width) in 0..255, or None where the picture has colour or transparency."""
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
    """Whether parts of `image` may be transparent; in 16 bits this is not looked for."""
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or (
        "transparency" in image.info and image.mode in ("1", "L", "P", "RGB")
    )


def eight_bits(image: Image.Image, white: float | None = None) -> Image.Image:
    """`image` with at most eight bits a channel: Pillow's own conversion clips all above 255.

    `white` is the full value of a picture of 32 bits a channel, of which `image` is a part.
    """
    if image.mode in ("RGBa", "La"):
        return image.convert(image.mode.upper())  # the one conversion that Pillow knows for it
    if image.mode[0] not in "IF":
        return image
    if image.mode.startswith("I;16"):
        return _from_sixteen_bits(np.asarray(image))
    full = _white(image) if white is None else white
    return Image.fromarray((np.clip(_finite(image), 0, full) / full * 255 + 0.5).astype(np.uint8))


def _white(image: Image.Image) -> float:
    """The full value of a picture of 32 bits a channel; of no meaning for others.

    The file does not say what white is: the least usual white that holds all values.
    """
    if image.mode not in ("I", "F"):
        return 255.0
    rows = max(1, _STRIP // image.width)
    tops = range(0, image.height, rows)
    areas = [(0, top, image.width, min(top + rows, image.height)) for top in tops]
    most = max(float(_finite(image.crop(area)).max()) for area in areas)
    return next((white for white in (1.0, 255.0, 65535.0) if most <= white), most)


def _finite(image: Image.Image) -> Floats:
    """(height, width), with 0 for infinity and for what is not a number."""
    values: Floats = np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)
    return values


def _from_sixteen_bits(values: NDArray[np.uint16]) -> Image.Image:
    """(height, width) in 0..65535 as "L"; in parts, since numpy widens what it looks up."""
    table = (np.arange(65536, dtype=np.float32) / 65535 * 255 + 0.5).astype(np.uint8)
    grey = np.empty(values.shape, np.uint8)
    for row in range(0, len(values), 64):
        grey[row : row + 64] = table[values[row : row + 64]]
    return Image.fromarray(grey)


def _flatten(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """An "RGBA" picture laid on a paper on which its content shows, as "RGB"."""
    alpha = image.getchannel("A")
    colour = image.convert("RGB")
    solid = np.asarray(alpha) > 127
    if solid.all() and alpha.getextrema() == (255, 255):
        return colour, []
    if not solid.any():
        return Image.new("RGB", image.size, "white"), ["flattened transparency onto white"]
    light = np.asarray(colour.convert("L"))[solid]
    left, top, right, bottom = Image.fromarray(solid).getbbox() or (0, 0, 1, 1)
    filled = solid.sum() / ((right - left) * (bottom - top))
    if filled > 0.6 and np.mean(np.abs(light - np.median(light)) > 50) > 0.02:
        # An icon or a sticker: the content is drawn on the opaque part, whose colour goes on.
        red, green, blue = np.median(np.asarray(colour)[solid], axis=0)
        paper, name = (int(red), int(green), int(blue)), "its own colour"
    elif light.mean() > 127:
        paper, name = (0, 0, 0), "black"
    else:
        paper, name = (255, 255, 255), "white"
    flat = Image.new("RGB", image.size, paper)
    flat.paste(colour, mask=alpha)
    return flat, [f"flattened transparency onto {name}"]
