"""Requests that once cost a worker seconds, gigabytes or its life: small to send, dear to read."""

import gzip
import struct
import zlib

MEBIBYTE = 1024 * 1024
MOST = 31 * MEBIBYTE  # a request may have 32


def png_chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


def _bmp(width: int, height: int, packed: int, data: bytes) -> bytes:
    palette = b"\0\0\0\0\xff\xff\xff\0"
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, packed, len(data), 0, 0, 2, 0)
    start = 14 + 40 + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + head + palette + data


def _tiff(strips: int, places: int, lines: int = 1) -> bytes:
    values = {256: 6, 257: strips * lines, 258: 8, 259: 1, 262: 1, 277: 1, 278: lines}
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    start = 8 + 2 + 12 * (len(values) + 1) + 4
    table = table[:-24] + struct.pack("<HHII", places, 4, strips, start) + table[-24:]
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(values) + 1) + table + bytes(4)
    return head + struct.pack("<I", 8) * strips


def _gif(before: bytes) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", 28, 28, 0, 0, 0)
    return head + before + b",\0\0\0\0\x1c\0\x1c\0\0\x08\0;"


def _png(before: bytes) -> bytes:
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 28, 28, 8, 0, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(29 * 28))) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + before + pixels


def _webp(chunks: bytes) -> bytes:
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(10) + chunks
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _avif(boxes: bytes) -> bytes:
    return b"\0\0\0\x14ftypavif\0\0\0\0avif" + boxes


PICTURES = {
    "BMP with RLE8": _bmp(4_990_000, 10, 1, b"\1\1\0\0" * 10 + b"\0\1"),
    "BMP with RLE8 over many lines": _bmp(100, 499_000, 1, b"\1\0" * (MOST // 2)),
    "PPM as text, with comments": b"P1 1000 1000\n" + b"#\n" * (2 * MEBIBYTE),
    "PPM as text": b"P2 4000 4000 255\n" + b"0 " * (MOST // 2),
    "PPM up to 100": b"P5 5600 5600 100\n" + bytes(5600 * 5600),
    "PPM up to 65000": b"P5 4000 4000 65000\n" + bytes(4000 * 4000 * 2 - 4000),
    "PPM with a long comment": b"P5\n#" + b"a" * MOST,
    "TIFF of strips": _tiff(7_900_000, 273),
    "TIFF of tiles": _tiff(7_900_000, 324),
    "TIFF of tags": b"II*\0\x08\0\0\0" + struct.pack("<H", 60_000) + bytes(12 * 60_000),
    "TIFF of one place listed again and again": (
        b"II*\0\x08\0\0\0"
        + struct.pack("<H", 400)
        + b"".join(struct.pack("<HHII", 1000 + n, 7, MOST, 8) for n in range(400))
        + bytes(MOST - 5000)
    ),
    "JPEG of padding": b"\xff\xd8" + b"\xff" * MOST,
    "JPEG of nothing": b"\xff\xd8\xff\xe0\0\x02" + bytes(MOST),
    "JPEG of APP2": b"\xff\xd8" + b"\xff\xe2\0\2" * (MOST // 4),
    "JPEG of comments": b"\xff\xd8" + b"\xff\xfe\0\2" * (MOST // 4),
    "GIF of comments": _gif(b"!\xfe\x01a\0" * (MOST // 5)),
    "GIF of one comment": _gif(b"!\xfe" + b"\x01a" * (MOST // 2) + b"\0"),
    "GIF of extensions": _gif(b"!\x01\0" * (MOST // 3)),
    "GIF of nothing": _gif(bytes(MOST)),
    "PNG of empty chunks": _png(png_chunk(b"abCd", b"") * (MOST // 12)),
    "PNG of words": _png(png_chunk(b"tEXt", b"a\0") * (MOST // 14)),
    "PNG of pixels byte by byte": _png(png_chunk(b"IDAT", b"a") * (MOST // 13)),
    "WebP of empty chunks": _webp(b"abcd\0\0\0\0" * (MOST // 8)),
    "AVIF of empty boxes": _avif(b"\0\0\0\x08free" * (MOST // 8)),
}

V2 = "/v2/models/mnist-lenet-metaplastic/infer"
V1 = "/v1/models/mnist-lenet-metaplastic:predict"
_FILLINGS = {
    "empty lists": b"[],",
    "numbers in lists": b"[0],",
    "empty objects": b"{},",
    "objects": b'{"":0},',
    "numbers": b"0.1,",
    "whole numbers": b"1000,",
    "texts": b'"",',
    "images": b'{"b64":""},',
}


def _v2(data: bytes) -> bytes:
    tensor = b'{"name":"images","datatype":"FP32","shape":[1,28,28],"data":[' + data + b"0]}"
    return b'{"inputs":[' + tensor + b"]}"


def _filled(element: bytes) -> bytes:
    return element * (MOST // len(element))


# name -> (path, the JSON)
JSON = {
    **{f"V2: {name}": (V2, _v2(_filled(one))) for name, one in _FILLINGS.items()},
    **{
        f"V1: {name}": (V1, b'{"instances":[' + _filled(one) + b"0]}")
        for name, one in _FILLINGS.items()
    },
    "V2: lists in lists": (V2, _v2(b"[" * 1_000_000)),
    "V2: an unknown name": (V2, b'{"x":[' + _filled(b"{},") + b"0]}"),
    "images": ("/predict", b'{"images":[' + _filled(b'"",') + b'""]}'),
    "one image again and again": ("/predict", b"{" + _filled(b'"image":"",') + b'"image":""}'),
}
_WIDE = b"A" * MOST + "\U0001f600".encode()
# What would take four bytes a character, by the same names.
WIDE_JSON = {
    "an image": ("/predict", b'{"image":"' + _WIDE + b'"}'),
    "V1: an image": (V1, b'{"instances":[{"b64":"' + _WIDE + b'"}]}'),
    "V2: an id": (V2, b'{"id":"' + _WIDE + b'","inputs":[]}'),
}
GZIP = {
    "empty files": gzip.compress(b"", 9) * (MOST // 20),
    "files of a byte": gzip.compress(b"a", 1) * (MOST // 21),
}
