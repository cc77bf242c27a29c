"""The structure of picture files, checked on their bytes before a decoder reads them.

A file of a few kilobytes can cost a decoder seconds: by thousands of segments, chunks, comments or
strips, by run lengths that fill millions of pixels, or by numbers written as text.
`check_structure` refuses such files. `is_simple` recognises files that are cheap to decode whatever
they hold. Both only walk from one length field to the next.
"""

import re
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from app.errors import RequestError

# Real pictures stay far below these limits. A file at a limit costs the decoder less than 0.1 s.
MOST_JPEG_SEGMENTS = 1_000
MOST_JPEG_SCANS = 100  # a progressive JPEG has about ten, each a pass over all its pixels
MOST_PNG_CHUNKS = 20_000  # some writers cut the pixels into chunks of 4 KiB
MOST_PNG_NOTES = 1_000  # chunks without pixels
MOST_GIF_BLOCKS = 20_000  # comments and other extensions before the first frame
MOST_TIFF_TAGS = 500
MOST_TIFF_STRIPS = 30_000
MOST_RIFF_CHUNKS = 10_000
MOST_BOXES = 1_000  # boxes on the outermost level of an AVIF or HEIC file
MOST_JUNK = 64 * 1024  # bytes between segments, which decoders skip
MOST_PPM_HEAD = 4 * 1024  # bytes

# A simple file costs less than 50 ms at worst: see benchmarks/fuzz.py.
SIMPLE_BYTES = 200_000
SIMPLE_PIXELS = 1_000_000
_SIMPLE_CHUNKS = 100
_SIMPLE_PACKED = 4  # compressed text chunks; each may unpack to 1 MiB
_SIMPLE_SEGMENTS = 100

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_PACKED = (b"zTXt", b"iTXt", b"iCCP")
_BASELINE, _PROGRESSIVE = 0xC0, 0xC2
_FRAMES = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), 0xCD, 0xCE, 0xCF))
_SCAN = 0xDA
_BARE = frozenset((0x00, 0x01, *range(0xD0, 0xD9)))  # markers without a length
_MARKER = re.compile(rb"[^\xff]{0,%d}\xff{1,%d}([^\xff])" % (MOST_JUNK, MOST_JUNK), re.DOTALL)

_GAP = rb"(?:\s|#[^\r\n]*[\r\n])"
_PPM_HEAD = re.compile(
    rb"P([456])%b+(\d{1,10})%b+(\d{1,10})(?:%b+(\d{1,10}))?" % (_GAP, _GAP, _GAP)
)

# TIFF: the size of a value of each type, and the tags that list the strips' or tiles' places and
# lengths.
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_TIFF_SIZES |= {16: 8, 17: 8, 18: 8}
_TIFF_STRIPS = (273, 279, 324, 325)


def check_structure(kind: str, data: bytes) -> None:
    """Raise RequestError 400 `unreadable_image` if `data` is malformed or too costly to decode.

    `kind` is Pillow's name of its format.
    """
    if check := _CHECKS.get(kind):
        check(data)


def is_simple(data: bytes) -> bool:
    """Return whether `data` is a small 8-bit PNG or baseline JPEG that is cheap to decode."""
    if len(data) > SIMPLE_BYTES:
        return False
    if data.startswith(_PNG):
        return _is_simple_png(data)
    return data.startswith(_JPEG) and _is_simple_jpeg(data)


def bytes_per_pixel(kind: str, data: bytes) -> float:
    """Return the decoder's memory for each pixel of the file, in bytes, or 0.

    It is 0 for formats that need no more than the picture itself.
    """
    if kind == "JPEG":
        head = _read_jpeg_head(data)
        # The decoder keeps the coefficients of all scans: two bytes for each sample.
        return 2 * head.samples if head and head.frame == _PROGRESSIVE else 0
    return {"WEBP": 16, "AVIF": 11, "HEIF": 12}.get(kind, 0)


def webp_size(data: bytes) -> tuple[int, int]:
    """Return the width and height in the header of a WebP, or (0, 0) if it has none.

    Its decoder allocates memory for all pixels before it reports their number.
    """
    name = data[12:16]
    if name == b"VP8X" and len(data) >= 30:
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return width, height
    if name == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if name == b"VP8 " and len(data) >= 30:
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


class _JpegHead(NamedTuple):
    """The beginning of a JPEG, up to its first scan."""

    segments: int
    frame: int  # the marker that says how it is coded; 0 if there is none
    bits: int  # of a sample
    width: int
    height: int
    components: bytes  # three bytes each: number, sampling factors, table
    scan: int  # position of the first scan

    @property
    def samples(self) -> float:
        """Return the samples for each pixel: 1 for grey, 3 for colour of full resolution."""
        factors = [(byte >> 4, byte & 15) for byte in self.components[1::3]]
        most = max((h for h, _ in factors), default=1) * max((v for _, v in factors), default=1)
        return sum(h * v for h, v in factors) / max(1, most)


def _read_jpeg_head(data: bytes) -> _JpegHead | None:
    """Return the head of a JPEG, or None if it has too many segments or too much between them."""
    position, junk, segments = 2, 0, 0
    frame, bits, width, height, components = 0, 0, 0, 0, b""
    while found := _next_marker(data, position):
        junk += found[0] - position - 2
        position, marker = found
        if marker == _SCAN:
            break
        segments += 1
        if segments > MOST_JPEG_SEGMENTS or junk > MOST_JUNK:
            return None
        if marker in _BARE:
            continue
        if marker in _FRAMES and position + 8 <= len(data):
            frame = marker
            bits, height, width, count = struct.unpack_from(">xxBHHB", data, position)
            components = data[position + 8 : position + 8 + 3 * count]
        position += max(2, int.from_bytes(data[position : position + 2], "big"))
    if not found:  # the file ends here, or what follows is not a segment
        if len(data) - position > MOST_JUNK:
            return None
        position = len(data)
    return _JpegHead(segments, frame, bits, width, height, components, position)


def _next_marker(data: bytes, position: int) -> tuple[int, int] | None:
    """Return the end and the number of the next marker of a JPEG, or None."""
    two = data[position : position + 2]
    if len(two) == 2 and two[0] == 0xFF != two[1]:  # nearly always, the marker is right here
        return position + 2, two[1]
    found = _MARKER.match(data, position)
    return (found.end(), found[1][0]) if found else None


def _is_simple_jpeg(data: bytes) -> bool:
    head = _read_jpeg_head(data)
    return (
        head is not None
        and head.frame == _BASELINE
        and head.bits == 8
        and head.segments <= _SIMPLE_SEGMENTS
        and head.width * head.height <= SIMPLE_PIXELS
        and data.count(b"\xff\xda", head.scan) <= 2  # three scans at most: one for each component
        and data.endswith(b"\xff\xd9")
    )


def _is_simple_png(data: bytes) -> bool:
    if data[12:16] != b"IHDR" or len(data) < 33:
        return False
    width, height, bits = struct.unpack_from(">IIB", data, 16)
    if bits > 8 or width * height > SIMPLE_PIXELS:
        return False
    packed = 0
    for number, name in enumerate(_png_chunks(data)):
        packed += name in _PACKED
        if number >= _SIMPLE_CHUNKS or packed > _SIMPLE_PACKED or name == b"fdAT":
            return False
    return True


def _png_chunks(data: bytes) -> Iterator[bytes]:
    """Yield the names of a PNG's chunks."""
    position = len(_PNG)
    while position + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        yield name
        if name == b"IEND":
            return
        position += 12 + length


def _check_jpeg(data: bytes) -> None:
    head = _read_jpeg_head(data)
    if head is None:
        raise _refusal(
            f"The JPEG has more than {MOST_JPEG_SEGMENTS} segments, or {MOST_JUNK} bytes that "
            "belong to no segment, before its pixels. Pictures have about ten segments."
        )
    scans = data.count(b"\xff\xda", head.scan) + 1
    if scans > MOST_JPEG_SCANS:
        raise _refusal(f"The JPEG has {scans} scans. Pictures have about ten.")


def _check_png(data: bytes) -> None:
    notes = 0
    for number, name in enumerate(_png_chunks(data)):
        notes += name != b"IDAT"
        if number >= MOST_PNG_CHUNKS or notes > MOST_PNG_NOTES:
            raise _refusal(
                f"The PNG has more than {MOST_PNG_NOTES} chunks without pixels, or more than "
                f"{MOST_PNG_CHUNKS} in all. Pictures have about ten."
            )


def _check_gif(data: bytes) -> None:
    if len(data) < 13:
        return
    colours = data[10]
    position = 13 + (3 << (colours & 7) + 1 if colours & 128 else 0)
    junk = blocks = 0
    while position < len(data) and data[position] not in b",;":
        if data[position] != 0x21:  # not an extension either
            position += 1
            junk += 1
        else:
            position += 2
            while position < len(data):
                blocks += 1
                length = data[position]
                position += 1 + length
                if not length or blocks > MOST_GIF_BLOCKS:
                    break
        if junk > MOST_JUNK or blocks > MOST_GIF_BLOCKS:
            raise _refusal(
                f"The GIF has more than {MOST_GIF_BLOCKS} blocks before its first frame. Pictures "
                "have about ten."
            )


def _check_tiff(data: bytes) -> None:
    order = "<" if data[:2] == b"II" else ">"
    big = b"+" in data[2:4]
    head, row = (order + "Q", order + "HHQ") if big else (order + "H", order + "HHI")
    try:
        (first,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        (tags,) = struct.unpack_from(head, data, first)
    except struct.error:
        return  # the decoder will report that it is incomplete
    if tags > MOST_TIFF_TAGS:
        raise _refusal(f"The TIFF has {tags} tags. Pictures have about twenty.")
    inline, held = (8, 0) if big else (4, 0)
    start = first + struct.calcsize(head)
    for number in range(tags):
        at = start + number * (struct.calcsize(row) + inline)
        if at + struct.calcsize(row) + inline > len(data):
            return
        tag, kind, count = struct.unpack_from(row, data, at)
        if tag in _TIFF_STRIPS and count > MOST_TIFF_STRIPS:
            raise _refusal(
                f"The TIFF has {count} strips; at most {MOST_TIFF_STRIPS} are accepted. "
                "Save it with larger strips."
            )
        size = count * _TIFF_SIZES.get(kind, 1)
        if size > inline:
            held += min(size, len(data))
    if held > 2 * len(data):  # many tags point to the same part of the file
        raise _refusal("The TIFF's tags claim more bytes than the file has.")


def _check_bmp(data: bytes) -> None:
    if data[14:18] != b"\x0c\0\0\0" and data[30:34] in (b"\1\0\0\0", b"\2\0\0\0"):
        raise _refusal(
            "The BMP has run-length compression, which is not supported. Save it without "
            "compression, or as PNG."
        )


def _check_ppm(data: bytes) -> None:
    if data[1:2] in b"123":
        raise _refusal(
            f"P{data[1:2].decode()} has its pixels as text, which is not supported. Save it in the "
            "binary form (P4, P5 or P6), or as PNG."
        )
    head = _PPM_HEAD.match(data, 0, MOST_PPM_HEAD)
    if not head:
        raise _refusal("The PPM does not begin with a width, a height and a largest value.")
    if head[1] != b"4" and (head[4] is None or int(head[4]) not in (255, 65535)):
        found = "none" if head[4] is None else head[4].decode()
        raise _refusal(f"The PPM's largest value must be 255 or 65535; it is {found}.")


def _check_webp(data: bytes) -> None:
    position, chunks = 12, 0
    while position + 8 <= len(data):
        chunks += 1
        if chunks > MOST_RIFF_CHUNKS:
            raise _refusal(
                f"The WebP has more than {MOST_RIFF_CHUNKS} chunks. Pictures have about ten."
            )
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + length + length % 2


def _check_boxes(data: bytes) -> None:
    position, boxes = 0, 0
    while position + 8 <= len(data):
        boxes += 1
        if boxes > MOST_BOXES:
            raise _refusal(f"The file has more than {MOST_BOXES} boxes. Pictures have about ten.")
        length = int.from_bytes(data[position : position + 4], "big")
        if length == 1:
            length = int.from_bytes(data[position + 8 : position + 16], "big")
        if length < 8:  # the last box, which extends to the end of the file
            return
        position += length


_CHECKS: dict[str, Callable[[bytes], None]] = {
    "JPEG": _check_jpeg,
    "PNG": _check_png,
    "GIF": _check_gif,
    "TIFF": _check_tiff,
    "BMP": _check_bmp,
    "PPM": _check_ppm,
    "WEBP": _check_webp,
    "AVIF": _check_boxes,
    "HEIF": _check_boxes,
}


def _refusal(message: str) -> RequestError:
    return RequestError(400, "unreadable_image", message)
