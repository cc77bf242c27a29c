"""From the modes of picture files (16 bits, palettes, CMYK, transparency) to arrays in 0..1."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.grids import Floats, box


def on_paper(image: Image.Image, longest: int) -> tuple[Floats, list[str]]:
    """(height, width, 1 or 3) in 0..1, opaque, with neither side above `longest`."""
    alpha = has_alpha(image)
    image = eight_bits(image)
    if alpha:
        image = image.convert("RGBA")
    elif image.mode != "L":
        image = image.convert("L" if image.mode == "1" else "RGB")
    factor = -(-max(image.size) // longest)
    if factor > 1:
        image = image.reduce(factor)
    image, steps = _flatten(image) if alpha else (image, [])
    return to_array(image), steps


def to_array(image: Image.Image) -> Floats:
    """(height, width, channels) in 0..1 from "L" or "RGB"."""
    return unit(np.asarray(image))


def unit(array: NDArray[np.uint8]) -> Floats:
    """(height, width) or (height, width, channels) in 0..255 -> (height, width, channels), 0..1."""
    values = np.divide(array, np.float32(255), dtype=np.float32)
    return values if values.ndim == 3 else values[..., None]


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
    return np.asarray(image)


def has_alpha(image: Image.Image) -> bool:
    """Whether parts of `image` may be transparent; in 16 bits this is not looked for."""
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or (
        "transparency" in image.info and image.mode in ("1", "L", "P", "RGB")
    )


def eight_bits(image: Image.Image) -> Image.Image:
    """`image` with at most eight bits a channel: Pillow's own conversion clips all above 255."""
    if image.mode in ("RGBa", "La"):
        return image.convert(image.mode.upper())  # the one conversion that Pillow knows for it
    if image.mode[0] not in "IF":
        return image
    if image.mode.startswith("I;16"):
        return _from_sixteen_bits(np.asarray(image))
    values = np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)
    most = float(values.max())
    # The file does not say what white is; the least usual white that holds all values.
    full = next((white for white in (1.0, 255.0, 65535.0) if most <= white), most)
    return Image.fromarray((np.clip(values, 0, full) / full * 255 + 0.5).astype(np.uint8))


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
    filled = solid.sum() / solid[box(solid)].size
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
