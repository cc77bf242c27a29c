"""Uploaded bytes -> a checked, decoded picture -> the array that a network takes.

`decode` and `prepare` are the stages of a request of the same names. Pillow is lent one format at
a time, the one that the file's first bytes name, and whatever it cannot make of the rest is a
RequestError that says what was wrong.
"""

import contextlib
import io
import logging
import re
import struct
import warnings
import zlib

from PIL import AvifImagePlugin, Image, JpegImagePlugin, TiffImagePlugin, WebPImagePlugin

from app import preparation
from app.errors import RequestError
from app.preparation import OWN_SIZE
from app.readings import Prepared, read
from app.records import timed
from models.cards import ImageInput

# First bytes -> Pillow's format; long enough that no text begins like a picture.
SIGNATURES = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"GIF8[79]a"), "GIF"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "WEBP"),
    (re.compile(rb".{4}ftypavi[fs]", re.DOTALL), "AVIF"),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "TIFF"),
    (re.compile(rb"P[1-6]\s+[#\d]"), "PPM"),
    (re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL), "BMP"),
)
FORMATS = "PNG, JPEG, GIF, WebP, AVIF, TIFF, PPM or BMP"
HEIC = re.compile(rb".{4}ftyp(hei[cxms]|hev[cx]|mif1|msf1)", re.DOTALL)

# A JPEG is read at no less than this many times the network's sides: preparation crops and
# centres, and needs more pixels than the network.
OVERSIZE = 8

# A progressive JPEG repeats itself in about ten scans; each costs a pass over all its pixels.
MOST_JPEG_SCANS = 100

# The smallest digits that people draw on purpose, in dot-matrix displays, are five pixels wide.
SMALLEST_SIDE = 5

# What Pillow's readers raise for broken files. The first five came up when 80,000 were broken on
# purpose, the others stand in its source. A memory error is the file's doing too: pictures within
# the limit of pixels have room.
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
    MemoryError,
    struct.error,
    zlib.error,
)
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)

ORIENTATION = 0x0112
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
assert AvifImagePlugin
assert WebPImagePlugin

# Pillow's remarks on odd metadata would let a caller write into the log.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())
logging.getLogger("PIL").propagate = False


@timed("decode")
def decode(data: bytes, *, max_pixels: int, smallest: tuple[int, int]) -> Image.Image:
    """The first frame of the picture in `data`, in whatever mode its file has.

    `smallest` is the network's (height, width): a much larger JPEG is read at a half, a quarter
    or an eighth of its size, which is several times faster, but never below 8 times `smallest`.
    `max_pixels` is held against the size that the file claims, before its pixels are read; above
    178 million Pillow's own limit comes first.

    Raises RequestError: 415 `not_an_image`, 400 `unreadable_image`, 413 `too_many_pixels`.
    """
    kind = _recognise(data)
    try:
        image = Image.open(io.BytesIO(data), formats=(kind,))
        _check_claims(image, data, max_pixels)
        own_size = image.size
        # JPEG's way to decode fewer pixels; nothing at all for other formats.
        image.draft(None, (OVERSIZE * smallest[1], OVERSIZE * smallest[0]))
        image.load()
        image.info.pop(OWN_SIZE, None)  # a text of the file's may bear the name
        if image.size != own_size:
            image.info[OWN_SIZE] = own_size
    except BOMBS as error:
        claimed = re.search(r"\d+", str(error))
        raise _too_many(f"{claimed[0] if claimed else 'too many'} pixels", max_pixels) from error
    except UNREADABLE as error:
        raise RequestError(
            400,
            "unreadable_image",
            f"The file begins as a {kind} picture but cannot be decoded: it is damaged or "
            "incomplete. Save or send it again.",
        ) from error
    if image.mode == "LAB":
        raise RequestError(
            400, "unreadable_image", "Colours in CIELAB are not read here. Save it as RGB."
        )
    return image


@timed("prepare")
def prepare(image: Image.Image, target: ImageInput, *, raw: bool = False) -> Prepared:
    """`image` as the network of `target` takes it, and how else it may be read.

    The normalisation with mean and standard deviation is a layer of the network and not done
    here. `raw` leaves all cleverness out: colours are converted, the size is forced, and that is
    all; not even the EXIF orientation or transparency is looked at.

    Raises RequestError 422: `image_too_small`, and `no_content` where no reading shows anything.
    """
    if min(image.size) < SMALLEST_SIDE:
        raise RequestError(
            422,
            "image_too_small",
            f"The picture is {image.width}x{image.height} pixels: too few to mean anything. "
            f"Both sides must be at least {SMALLEST_SIDE}.",
            width=image.width,
            height=image.height,
        )
    if raw:
        return Prepared(preparation.raw(image, target))
    image, turned = _upright(image)
    return read(image, target, turned)


def _recognise(data: bytes) -> str:
    """Pillow's name for the format that `data` begins like."""
    for signature, kind in SIGNATURES:
        if signature.match(data):
            return kind
    if not data:
        found = "The file is empty."
    elif HEIC.match(data):
        found = "The file is an HEIC picture, which is not read here."
    else:
        found = "The file is not a picture of a known format."
    raise RequestError(415, "not_an_image", f"{found} Send {FORMATS}.")


def _check_claims(image: Image.Image, data: bytes, max_pixels: int) -> None:
    """Refuse what would cost too much to decode, from the header alone."""
    width, height = image.size
    if width * height == 0:
        raise RequestError(
            400, "unreadable_image", f"The picture is {width}x{height}: it has no pixels."
        )
    if width * height > max_pixels:
        raise _too_many(f"{width}x{height} pixels", max_pixels, width=width, height=height)
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        scans = data.count(b"\xff\xda")
        if scans > MOST_JPEG_SCANS:
            raise RequestError(
                400, "unreadable_image", f"The JPEG has {scans} scans; pictures have ten or so."
            )
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tile = image.tag_v2.get(322, 1), image.tag_v2.get(323, 1)
        if tile[0] * tile[1] > max_pixels:
            raise _too_many(f"tiles of {tile[0]}x{tile[1]} pixels", max_pixels)


def _too_many(found: str, max_pixels: int, **details: int) -> RequestError:
    return RequestError(
        413,
        "too_many_pixels",
        f"The picture has {found}; at most {max_pixels} in all are accepted. Send it smaller.",
        max_pixels=max_pixels,
        **details,
    )


def _upright(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """`image` turned as its EXIF entry says, if it says so legibly."""
    orientation = None
    if not image.info:
        return image, []
    with contextlib.suppress(*UNREADABLE):  # a picture with broken metadata is still a picture
        orientation = image.getexif().get(ORIENTATION)
    if isinstance(orientation, int) and orientation in TURNS:
        turned = image.transpose(TURNS[orientation])
        if OWN_SIZE in image.info and orientation >= 5:  # width and height change places
            turned.info[OWN_SIZE] = image.info[OWN_SIZE][::-1]
        return turned, ["applied EXIF orientation"]
    return image, []
