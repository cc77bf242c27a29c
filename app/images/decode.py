"""Decoding and preparation: uploaded bytes -> a checked picture -> the array that a network takes.

`decode` and `prepare` are the stages of a request with these names. app/images/sandbox.py runs
`decode` in another process if that is safer. Pillow gets only the one format that the file's first
bytes name. A file that it cannot decode becomes a RequestError.
"""

import contextlib
import importlib.util
import io
import logging
import re
import struct
import warnings
import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image, TiffImagePlugin, WebPImagePlugin

from app.errors import RequestError
from app.images import styles
from app.images.readings import Prepared, looked_at, read
from app.images.structure import bytes_per_pixel, check_structure, webp_size
from app.images.styles import OWN_SIZE, Reading
from app.settings import MEGAPIXEL
from app.telemetry.record import timed
from models.cards import ImageInput
from models.pictures import OVERSIZE, reduced, turned_size

# First bytes -> Pillow's format. They are long enough that no text begins like a picture.
SIGNATURES = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"GIF8[79]a"), "GIF"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "WEBP"),
    (re.compile(rb".{4}ftypavi[fs]", re.DOTALL), "AVIF"),
    (re.compile(rb".{4}ftyp(hei[cxms]|hev[cx]|mif1|msf1)", re.DOTALL), "HEIF"),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "TIFF"),
    (re.compile(rb"P[1-6]\s+[#\d]"), "PPM"),
    (re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL), "BMP"),
)
FORMATS = "PNG, JPEG, GIF, WebP, AVIF, HEIC, TIFF, PPM or BMP"

# The smallest digits that people draw on purpose, in dot-matrix displays, are five pixels wide.
SMALLEST_SIDE = 5

# What Pillow's decoders raise for broken files. The first five occurred in a test with 80,000
# damaged files, the others are in Pillow's source.
UNREADABLE = (
    OSError,
    ValueError,
    RuntimeError,
    SyntaxError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    struct.error,
    zlib.error,
)
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)

ORIENTATION = 0x0112
TURNED = "applied EXIF orientation"
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Loaded at the start, so that no request waits for an import.
Image.preinit()
assert WebPImagePlugin
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the workers already use every core

HEIC_IS_READ = importlib.util.find_spec("pillow_heif") is not None
if HEIC_IS_READ:
    import pillow_heif

    pillow_heif.register_heif_opener(
        decode_threads=1, thumbnails=False, depth_images=False, aux_images=False
    )

# Pillow's warnings quote metadata, so a caller could write into the log.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())
logging.getLogger("PIL").propagate = False


class Picture(NamedTuple):
    """A decoded picture, with what its preparation needs."""

    image: Image.Image
    size: tuple[int, int]  # (width, height) in pixels in the file
    # Steps of the preparation that are done already, because the picture was large: `image` is then
    # as small as the rest of the preparation allows.
    steps: tuple[str, ...] = ()
    pixels: NDArray[np.float32] | None = None  # (height, width, channels), 0..1: fully prepared


def decode(
    data: bytes,
    *,
    max_pixels: int,
    smallest: tuple[int, int],
    max_bytes: int | None = None,
    simple: bool = False,
) -> Picture:
    """Return the first frame of the picture in `data`, in the mode of its file.

    `smallest` is the network's (height, width). A much larger JPEG is decoded at a half, a quarter
    or an eighth of its size, which is several times faster, but never below 8 times `smallest`.
    `max_pixels` limits the size in the file's header, before pixels are read; above 178 million,
    Pillow's own limit comes first. `max_bytes` limits the memory of the decoder. Files that
    `is_simple` accepts may set `simple`, which skips the check of their structure.

    A file that ends too early is accepted if no pixel depends on what is missing.

    Raises RequestError: 415 `not_an_image`, 400 `unreadable_image`, 413 `too_many_pixels` or
    `too_much_work`.
    """
    kind = _recognise(data)
    if not simple:
        check_structure(kind, data)
    if max_bytes and (needed := bytes_per_pixel(kind, data)):
        # Rounded down to whole megapixels, so that messages name the same number for every picture.
        max_pixels = min(max_pixels, int(max_bytes / needed / MEGAPIXEL) * MEGAPIXEL or MEGAPIXEL)
    if kind == "WEBP":
        _check_size(webp_size(data), max_pixels)
        if int.from_bytes(data[4:8], "little") + 8 == len(data) + 1:
            data += b"\0"  # some writers leave out the padding of a chunk of odd length
    try:
        return _read(kind, data, max_pixels, smallest)
    except BOMBS as error:
        claimed = re.search(r"\d+", str(error))
        raise too_many_pixels(
            f"{claimed[0] if claimed else 'too many'} pixels", max_pixels
        ) from error
    except MemoryError as error:
        raise RequestError(
            413,
            "too_much_work",
            "The picture takes more memory than one picture may. Send it smaller.",
        ) from error
    except UNREADABLE as error:
        if "truncated" in str(error).lower():  # Pillow's word for a file that ends too early
            picture = _read_without_end(kind, data, max_pixels, smallest)
            if picture:
                return picture
        raise RequestError(
            400,
            "unreadable_image",
            f"The file begins as a {kind} picture but cannot be decoded: it is damaged or "
            "incomplete. Save or send it again.",
        ) from error


def _read(kind: str, data: bytes, max_pixels: int, smallest: tuple[int, int]) -> Picture:
    image = Image.open(io.BytesIO(data), formats=(kind,))
    _check_claims(image, max_pixels)
    size = image.size
    # Has an effect on JPEG only: it is then decoded at a fraction of its size.
    image.draft(None, (OVERSIZE * smallest[1], OVERSIZE * smallest[0]))
    image.load()
    image.info.pop(OWN_SIZE, None)  # a text in the file's metadata may have this name
    if image.size != size:
        image.info[OWN_SIZE] = size
    if image.mode == "LAB":
        raise RequestError(
            400, "unreadable_image", "CIELAB colours are not supported. Save the picture as RGB."
        )
    return Picture(image, size)


def _read_without_end(
    kind: str, data: bytes, max_pixels: int, smallest: tuple[int, int]
) -> Picture | None:
    """Return the picture in `data`, which ends too early, if all its pixels are present.

    That is the case if two different continuations of the file give the same pixels.
    """
    if kind == "JPEG":
        data = data.rstrip(b"\xff")  # fill bytes, or the first half of the end marker
    found = []
    for byte in (b"\x00", b"\x55"):
        # Long enough for a block of a GIF. The last two bytes end a JPEG.
        try:
            found.append(_read(kind, data + 512 * byte + b"\xff\xd9", max_pixels, smallest))
        except (*UNREADABLE, MemoryError):
            return None
    first, second = found
    return first if first.image.tobytes() == second.image.tobytes() else None


def made_small(picture: Picture, target: ImageInput, *, raw: bool) -> Picture:
    """Return `picture` with the part of its preparation done that reads all its pixels.

    `prepare` gives the same array and the same steps for the result as for `picture`. Large
    pictures are thereby not copied as a whole.
    """
    if min(picture.size) < SMALLEST_SIDE:
        return Picture(Image.new("L", (1, 1)), picture.size)  # `prepare` will refuse it
    if raw:
        return _finished(picture, styles.raw(picture.image, target))
    turn = _turn(picture.image)
    turned = () if turn is None else (TURNED,)
    if target.style == "photo":  # photos are resized from all their pixels
        image = picture.image if turn is None else _upright(picture.image, turn)
        return _finished(picture, styles.photo(image, target).after(turned))
    return Picture(reduced(picture.image, looked_at(target), turn), picture.size, turned)


def _finished(picture: Picture, reading: Reading) -> Picture:
    return Picture(Image.new("L", (1, 1)), picture.size, reading.steps, reading.pixels)


@timed("prepare")
def prepare(picture: Picture, target: ImageInput, *, raw: bool = False) -> Prepared:
    """Return `picture` as the network of `target` takes it, with its other readings.

    The network itself normalises by mean and standard deviation. With `raw`, colours are converted
    and the picture is resized, and nothing else is done: even the EXIF orientation and transparency
    are ignored.

    Raises RequestError 422: `image_too_small`, and `no_content` if no reading shows anything.
    """
    if min(picture.size) < SMALLEST_SIDE:
        width, height = picture.size
        raise RequestError(
            422,
            "image_too_small",
            f"The picture has {width}x{height} pixels, too few to show anything. "
            f"Both sides must be at least {SMALLEST_SIDE}.",
            width=width,
            height=height,
        )
    if picture.pixels is not None:
        return Prepared(Reading(picture.pixels, picture.steps))
    image = picture.image
    if raw:
        return Prepared(styles.raw(image, target))
    turn, steps = _turn(image), picture.steps
    if turn is not None:
        image, steps = _upright(image, turn), (*steps, TURNED)
    return read(image, target, steps)


def _recognise(data: bytes) -> str:
    """Return Pillow's name for the format that `data` begins with."""
    kind = next((kind for signature, kind in SIGNATURES if signature.match(data)), None)
    if kind is None:
        raise not_an_image()
    if kind == "HEIF" and not HEIC_IS_READ:
        found = "HEIC pictures are not supported here: pillow-heif is not installed."
        raise RequestError(415, "not_an_image", f"{found} Send {FORMATS.replace('HEIC, ', '')}.")
    return kind


def _check_claims(image: Image.Image, max_pixels: int) -> None:
    """Raise RequestError if the header claims more pixels than may be decoded, or none."""
    width, height = image.size
    if width * height == 0:
        raise RequestError(
            400, "unreadable_image", f"The picture is {width}x{height}: it has no pixels."
        )
    _check_size(image.size, max_pixels)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tile = image.tag_v2.get(322, 1), image.tag_v2.get(323, 1)
        if tile[0] * tile[1] > max_pixels:
            raise too_many_pixels(f"tiles of {tile[0]}x{tile[1]} pixels", max_pixels)


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise too_many_pixels(f"{width}x{height} pixels", max_pixels, width=width, height=height)


def not_an_image() -> RequestError:
    """Return the refusal of a file whose first bytes are not those of a known format."""
    message = f"The file is not a picture of a known format. Send {FORMATS}."
    return RequestError(415, "not_an_image", message)


def too_many_pixels(found: str, max_pixels: int, **details: int) -> RequestError:
    """Return the refusal of a picture that has `found`, which is more than `max_pixels`."""
    return RequestError(
        413,
        "too_many_pixels",
        f"The picture has {found}; at most {max_pixels} in all are accepted. Send it smaller.",
        max_pixels=max_pixels,
        **details,
    )


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return how `image` must be turned to be upright, if its EXIF orientation can be read."""
    orientation = None
    if not image.info:
        return None
    with contextlib.suppress(*UNREADABLE):  # a picture with broken metadata is still a picture
        orientation = image.getexif().get(ORIENTATION)
    return TURNS.get(orientation) if isinstance(orientation, int) else None


def _upright(image: Image.Image, turn: Image.Transpose) -> Image.Image:
    """Return `image` turned, with the size in its file turned as well."""
    upright = image.transpose(turn)
    if OWN_SIZE in image.info:
        upright.info[OWN_SIZE] = turned_size(image.info[OWN_SIZE], turn)
    return upright
