"""PNGs in the plainest form: 8-bit grey or RGB, in one piece, with nothing but pixels.

Most programs write pictures of a network's size in this form. Pillow's decoder reads their pixels
here, as it does for all PNGs. Pillow's reader of chunks, which takes twice as long as that, reads
whatever differs.
"""

import struct
from zlib import crc32

from PIL import Image

from app.images.structure import SIMPLE_BYTES, SIMPLE_PIXELS

_BEGIN = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_END = b"\0\0\0\0IEND\xaeB`\x82"
# From the signature to the name of the second chunk: width, height, form, checksum, length.
_HEAD = struct.Struct(">16sII5sII4s")
_REST = 4 + len(_END)  # bytes behind the pixels: their checksum, and the last chunk
# Bits and type of colour; the usual compression and filters; not interlaced. Then Pillow's mode.
_MODES = {b"\x08\0\0\0\0": "L", b"\x08\2\0\0\0": "RGB"}


def read_plain_png(data: bytes, max_pixels: int) -> Image.Image | None:
    """Return the picture in `data`, or None if it is no flawless PNG in the plainest form.

    The result is the same as that of app/images/decode.py.
    """
    if not data.endswith(_END) or not _HEAD.size + _REST <= len(data) <= SIMPLE_BYTES:
        return None
    begin, width, height, form, checksum, length, name = _HEAD.unpack_from(data)
    mode, end = _MODES.get(form), _HEAD.size + length
    if (
        begin != _BEGIN
        or mode is None
        or name != b"IDAT"
        or end + _REST != len(data)
        or not 0 < width * height <= min(SIMPLE_PIXELS, max_pixels)
        or crc32(data[12:29]) != checksum
        or crc32(data[37:end]).to_bytes(4, "big") != data[end : end + 4]
    ):
        return None
    try:
        return Image.frombytes(mode, (width, height), data[_HEAD.size : end], "zip", mode, 0)
    except (ValueError, OSError, MemoryError):
        return None  # the other reader says what is wrong
