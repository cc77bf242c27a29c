"""Uploaded bytes -> a checked, decoded picture -> the array that a network takes.

`decode` and `prepare` are the stages of a request of the same names; app/images/sandbox.py runs
`decode` in another process where that is safer. Pillow is lent one format at a time, the one that
the file's first bytes name, and whatever it cannot make of the rest is a RequestError that says
what was wrong.
"""

import contextlib
import importlib.util
import io
import logging
import re
import struct
import warnings
import zlib
from dataclasses import dataclass

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

# First bytes -> Pillow's format; long enough that no text begins like a picture.
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

# What Pillow's readers raise for broken files. The first five came up when 80,000 were broken on
# purpose, the others stand in its source.
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

# Known from the start, so that no request waits for an import.
Image.preinit()
assert WebPImagePlugin
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # pictures are decoded by as many processes as are wanted

HEIC_IS_READ = importlib.util.find_spec("pillow_heif") is not None
if HEIC_IS_READ:
    import pillow_heif

    pillow_heif.register_heif_opener(
        decode_threads=1, thumbnails=False, depth_images=False, aux_images=False
    )

# Pillow's remarks on odd metadata would let a caller write into the log.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())
logging.getLogger("PIL").propagate = False


@dataclass(frozen=True)
class Picture:
    """A decoded picture, as far as it must be kept to be prepared."""

    image: Image.Image
    size: tuple[int, int]  # (width, height) in pixels, as the file has it
    # What was done already, where that is more than decoding: the picture was large, and is as
    # small now as its preparation allows.
    steps: tuple[str, ...] = ()
    pixels: NDArray[np.float32] | None = None  # (height, width, channels), 0..1: prepared already


def decode(
    data: bytes,
    *,
    max_pixels: int,
    smallest: tuple[int, int],
    max_bytes: int | None = None,
    simple: bool = False,
) -> Picture:
    """The first frame of the picture in `data`, in whatever mode its file has.

    `smallest` is the network's (height, width): a much larger JPEG is read at a half, a quarter
    or an eighth of its size, which is several times faster, but never below 8 times `smallest`.
    `max_pixels` is held against the size that the file claims, before its pixels are read; above
    178 million Pillow's own limit comes first. `max_bytes` is the memory that decoding may take.
    `simple` files, by `is_simple`, need no look at their structure any more.

    A file that ends too early is read if no pixel depends on what is missing.

    Raises RequestError: 415 `not_an_image`, 400 `unreadable_image`, 413 `too_many_pixels` or
    `too_much_work`.
    """
    kind = _recognise(data)
    if not simple:
        check_structure(kind, data)
    if max_bytes and (needed := bytes_per_pixel(kind, data)):
        # In whole millions, so that a message names the same number for every picture.
        max_pixels = min(max_pixels, int(max_bytes / needed / MEGAPIXEL) * MEGAPIXEL or MEGAPIXEL)
    if kind == "WEBP":
        _check_size(webp_size(data), max_pixels)
        if int.from_bytes(data[4:8], "little") + 8 == len(data) + 1:
            data += b"\0"  # a chunk of odd length is padded, and some writers leave that out
    try:
        return _read(kind, data, max_pixels, smallest)
    except BOMBS as error:
        claimed = re.search(r"\d+", str(error))
        raise _too_many(f"{claimed[0] if claimed else 'too many'} pixels", max_pixels) from error
    except MemoryError as error:
        raise RequestError(
            413, "too_much_work", "The picture takes more memory than one may. Send it smaller."
        ) from error
    except UNREADABLE as error:
        if "truncated" in str(error).lower():  # Pillow's word for it
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
    # JPEG's way to decode fewer pixels; nothing at all for other formats.
    image.draft(None, (OVERSIZE * smallest[1], OVERSIZE * smallest[0]))
    image.load()
    image.info.pop(OWN_SIZE, None)  # a text of the file's may bear the name
    if image.size != size:
        image.info[OWN_SIZE] = size
    if image.mode == "LAB":
        raise RequestError(
            400, "unreadable_image", "Colours in CIELAB are not read here. Save it as RGB."
        )
    return Picture(image, size)


def _read_without_end(
    kind: str, data: bytes, max_pixels: int, smallest: tuple[int, int]
) -> Picture | None:
    """The picture in `data`, which ends too early, if all its pixels are there.

    They are where two ways to go on give the same pixels.
    """
    if kind == "JPEG":
        data = data.rstrip(b"\xff")  # fill bytes, or half of the mark of its end
    found = []
    for byte in (b"\x00", b"\x55"):
        # Long enough for a block of GIF; the last two bytes end a JPEG.
        try:
            found.append(_read(kind, data + 512 * byte + b"\xff\xd9", max_pixels, smallest))
        except (*UNREADABLE, MemoryError):
            return None
    first, second = found
    return first if first.image.tobytes() == second.image.tobytes() else None


def made_small(picture: Picture, target: ImageInput, *, raw: bool) -> Picture:
    """`picture` with what `prepare` does to all its pixels done already.

    `prepare` gives the same array and the same steps for both. It is for large pictures, which
    are not copied as a whole.
    """
    if min(picture.size) < SMALLEST_SIDE:
        return Picture(Image.new("L", (1, 1)), picture.size)  # it will be refused
    if raw:
        return _finished(picture, styles.raw(picture.image, target))
    turn = _turn(picture.image)
    turned = () if turn is None else (TURNED,)
    if target.style == "photo":  # every pixel of which counts
        image = picture.image if turn is None else _upright(picture.image, turn)
        return _finished(picture, styles.photo(image, target).after(turned))
    return Picture(reduced(picture.image, looked_at(target), turn), picture.size, turned)


def _finished(picture: Picture, reading: Reading) -> Picture:
    return Picture(Image.new("L", (1, 1)), picture.size, reading.steps, reading.pixels)


@timed("prepare")
def prepare(picture: Picture, target: ImageInput, *, raw: bool = False) -> Prepared:
    """`picture` as the network of `target` takes it, and how else it may be read.

    The normalisation with mean and standard deviation is a layer of the network and not done
    here. `raw` leaves all cleverness out: colours are converted, the size is forced, and that is
    all; not even the EXIF orientation or transparency is looked at.

    Raises RequestError 422: `image_too_small`, and `no_content` where no reading shows anything.
    """
    if min(picture.size) < SMALLEST_SIDE:
        width, height = picture.size
        raise RequestError(
            422,
            "image_too_small",
            f"The picture is {width}x{height} pixels: too few to mean anything. "
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
    """Pillow's name for the format that `data` begins like."""
    kind = next((kind for signature, kind in SIGNATURES if signature.match(data)), None)
    if kind is None:
        found = "The file is not a picture of a known format." if data else "The file is empty."
        raise RequestError(415, "not_an_image", f"{found} Send {FORMATS}.")
    if kind == "HEIF" and not HEIC_IS_READ:
        found = "The file is an HEIC picture, which is not read here: pillow-heif is missing."
        raise RequestError(415, "not_an_image", f"{found} Send {FORMATS.replace('HEIC, ', '')}.")
    return kind


def _check_claims(image: Image.Image, max_pixels: int) -> None:
    """Refuse what would cost too much to decode, from the header alone."""
    width, height = image.size
    if width * height == 0:
        raise RequestError(
            400, "unreadable_image", f"The picture is {width}x{height}: it has no pixels."
        )
    _check_size(image.size, max_pixels)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tile = image.tag_v2.get(322, 1), image.tag_v2.get(323, 1)
        if tile[0] * tile[1] > max_pixels:
            raise _too_many(f"tiles of {tile[0]}x{tile[1]} pixels", max_pixels)


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise _too_many(f"{width}x{height} pixels", max_pixels, width=width, height=height)


def _too_many(found: str, max_pixels: int, **details: int) -> RequestError:
    return RequestError(
        413,
        "too_many_pixels",
        f"The picture has {found}; at most {max_pixels} in all are accepted. Send it smaller.",
        max_pixels=max_pixels,
        **details,
    )


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How `image` must be turned to stand upright, if its EXIF entry says so legibly."""
    orientation = None
    if not image.info:
        return None
    with contextlib.suppress(*UNREADABLE):  # a picture with broken metadata is still a picture
        orientation = image.getexif().get(ORIENTATION)
    return TURNS.get(orientation) if isinstance(orientation, int) else None


def _upright(image: Image.Image, turn: Image.Transpose) -> Image.Image:
    """`image` turned, and with it the size that its file has."""
    upright = image.transpose(turn)
    if OWN_SIZE in image.info:
        upright.info[OWN_SIZE] = turned_size(image.info[OWN_SIZE], turn)
    return upright
