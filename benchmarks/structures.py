"""Generate files with an unusual structure that could be expensive to read.

`FORMATS` has a function for each format. From a random number generator it makes a file of a few
bytes to 32 MiB: a repeated element of the format, a picture with many pixels from very few bytes,
or counts and lengths that are wrong.
"""

import gzip
import io
import random
import struct
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

from app.images.decode import HEIC_IS_READ
from app.images.structure import is_simple

MOST = 32 * 1024 * 1024 - 4096  # bytes in the body of a request
PIXELS = 49_900_000


def times(chance: random.Random, element: bytes, most: int = MOST) -> bytes:
    """Repeat `element` up to a size of random magnitude."""
    size = min(most, int(2 ** chance.uniform(4, 25)))
    return element * max(1, size // max(1, len(element)))


def sides(chance: random.Random) -> tuple[int, int]:
    """Return width and height: small, large, or with one side of only a few pixels."""
    width = round(2 ** chance.uniform(0, 15.9))
    area = chance.choice((784, 1_000_000, PIXELS, PIXELS))
    return width, max(1, min(65_535, area // width))


@cache
def saved(kind: str, width: int, height: int, mode: str = "RGB", **options: object) -> bytes:
    """Return the file of a noisy picture, whose pixels are expensive to decode."""
    rng = np.random.default_rng(0)
    few = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    picture = Image.fromarray(few).resize((width, height), Image.Resampling.NEAREST).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def large(chance: random.Random, kind: str, modes: str, **options: object) -> bytes:
    """Return the file of a valid picture of up to 49.9 megapixels."""
    # Writing a large HEIC takes minutes.
    side = chance.choice((1000, 2000) if kind == "HEIF" else (1000, 3000, 5000, 7060))
    return saved(kind, side, side, chance.choice(modes.split()), **options)


def jpeg(chance: random.Random) -> bytes:
    one = saved("JPEG", 200, 160)
    progressive = saved("JPEG", 200, 160, progressive=True)
    marker = bytes([0xFF, chance.choice((*range(0xC0, 0xD0), *range(0xDB, 0x100)))])
    content = bytes(chance.choice((0, 1, 14, 64, 255)))
    segment = marker + struct.pack(">H", len(content) + 2) + content
    width, height = sides(chance)
    match chance.randrange(8):
        case 0:
            return one[:2] + times(chance, segment) + one[2:]
        case 1:
            return one[:2] + times(chance, b"\xff") + one[2:]
        case 2:
            return one[:20] + times(chance, chance.randbytes(3)) + one[20:]
        case 3:  # many scans of a picture that claims many pixels
            frame = progressive.index(b"\xff\xc2")
            first = progressive.index(b"\xff\xda")
            begun = bytearray(progressive[:first])
            begun[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
            most = chance.choice((90, 10_000)) * (len(progressive) - first)
            return bytes(begun) + times(chance, progressive[first:-2], most) + b"\xff\xd9"
        case 4:
            last = progressive.rindex(b"\xff\xda")
            return progressive[:last] + times(chance, segment) + progressive[last:]
        case 5:
            return one[:-2] + times(chance, chance.choice((b"\xff", b"\xff\xd0", b"\xff\0", b"\0")))
        case 6:
            return large(chance, "JPEG", "L RGB CMYK", progressive=True, subsampling=0)
        case _:
            return large(chance, "JPEG", "L RGB CMYK")


def png_chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


@cache
def zeros(count: int) -> bytes:
    packer = zlib.compressobj(1)
    parts = [packer.compress(bytes(min(1 << 20, count - at))) for at in range(0, count, 1 << 20)]
    return b"".join(parts) + packer.flush()


def png(chance: random.Random) -> bytes:
    width, height = sides(chance)
    colour = chance.choice((0, 2, 3, 4, 6))
    bits = 8 if colour == 3 else chance.choice((8, 16))
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    interlaced = chance.randrange(2)
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    pixels = zeros((width * samples * bits // 8 + 1) * height * (2 if interlaced else 1))
    before = png_chunk(b"PLTE", bytes(768))
    packed = zlib.compress(bytes(1 << 20))
    notes = (
        png_chunk(chance.choice((b"tEXt", b"zTXt", b"abCd", b"tRNS", b"gAMA", b"PLTE")), b""),
        png_chunk(b"tEXt", b"%06x\0" % chance.getrandbits(24)),
        png_chunk(b"zTXt", b"a\0\0" + packed),
        png_chunk(b"iTXt", b"a\0\1\0\0\0" + packed),
        png_chunk(b"iCCP", b"a\0\0" + packed),
        png_chunk(b"fdAT", bytes(8)),
        png_chunk(b"IDAT", b""),
    )
    if chance.randrange(2):
        before += times(chance, chance.choice(notes))
    size = chance.choice((1, 100, 8192, len(pixels)))
    parts = [
        pixels[at : at + size]
        for at in range(0, min(len(pixels), MOST * size // (12 + size)), size)
    ]
    body = b"".join(png_chunk(b"IDAT", part) for part in parts)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + before + body + png_chunk(b"IEND", b"")


def gif(chance: random.Random) -> bytes:
    width, height = sides(chance)
    block = bytes([size := chance.choice((1, 3, 255))]) + chance.randbytes(size)
    extension = b"!" + chance.choice((b"\xfe", b"\xff", b"\xf9", b"\x01"))
    frame = b"," + struct.pack("<HHHHBB", 0, 0, width, height, 0, 8)
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0)
    match chance.randrange(6):
        case 0:
            return head + times(chance, extension + block + b"\0") + frame + b"\0;"
        case 1:
            return head + extension + times(chance, block) + b"\0" + frame + b"\0;"
        case 2:
            return head + times(chance, chance.choice((b"\0", b"a"))) + frame + b"\0;"
        case 3:
            return head + frame + times(chance, block) + b"\0;"
        case 4:
            small = b"," + struct.pack("<HHHHBB", 0, 0, 1, 1, 0, 8) + b"\x01\0\0"
            return head + times(chance, small) + b";"
        case _:
            return large(chance, "GIF", "P L")


def tiff_of(entries: dict[int, tuple[int, int, bytes]], data: bytes = b"") -> bytes:
    """Return a TIFF directory. `entries` maps a tag to type, count and values."""
    place = 8 + 2 + 12 * len(entries) + 4
    table, values = struct.pack("<H", len(entries)), b""
    for tag, (kind, count, content) in sorted(entries.items()):
        table += struct.pack("<HHI", tag, kind, count)
        if len(content) <= 4:
            table += content.ljust(4, b"\0")
        else:
            table += struct.pack("<I", place + len(values))
            values += content
    return b"II*\0" + struct.pack("<I", 8) + table + bytes(4) + values + data


def tiff(chance: random.Random) -> bytes:
    width, height = sides(chance)
    bits = chance.choice((1, 8, 16, 32))
    compression = chance.choice((1, 1, 1, 5, 7, 8, 32773, 34925, 50000, 2, 3, 4))
    entries = {
        tag: (4, 1, struct.pack("<I", value))
        for tag, value in {
            **{256: width, 257: height, 258: bits, 259: compression, 262: chance.randrange(3)},
            **{277: 1, 278: chance.choice((1, height)), 273: 8, 279: 64},
        }.items()
    }
    match chance.randrange(5):
        case 0:
            count = int(2 ** chance.uniform(4, 22))
            places = (4, count, struct.pack("<I", 8) * count)
            entries[257], entries[273], entries[279] = (
                (4, 1, struct.pack("<I", count)),
                places,
                places,
            )
        case 1:
            count = int(2 ** chance.uniform(4, 22))
            entries |= {322: entries[278], 323: (4, 1, struct.pack("<I", 1))}
            entries[324] = entries[325] = (4, count, struct.pack("<I", 8) * count)
        case 2:
            data = chance.randbytes(1 << 20)
            for tag in range(1000, 1000 + chance.choice((10, 400, 4000))):
                entries[tag] = (7, 31 << 20, b"\x10\0\0\0")
            return tiff_of(entries, data * chance.choice((1, 30)))[:MOST]
        case 3:
            return large(
                chance,
                "TIFF",
                "L RGB RGBA I;16 F",
                compression=chance.choice(("tiff_lzw", "tiff_adobe_deflate", "packbits")),
            )[:MOST]
        case 4:
            return tiff_of(entries, times(chance, chance.randbytes(chance.choice((1, 64)))))[:MOST]
    return tiff_of(entries, bytes(64))[:MOST]


def bmp(chance: random.Random) -> bytes:
    width, height = sides(chance)
    bits, packed = chance.choice(((1, 0), (4, 2), (8, 1), (8, 0), (16, 3), (24, 0), (32, 0)))
    palette = bytes(4 << bits) if bits <= 8 else b""
    data = times(chance, chance.choice((b"\1\0", b"\0\0", b"\0\2\xff\xff", b"\xfe\x11")))
    start = 14 + 40 + len(palette)
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, packed, len(data), 0, 0, 0, 0)
    whole = b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + head + palette + data
    return whole if chance.randrange(4) else saved("BMP", 3200, 3200)


def ppm(chance: random.Random) -> bytes:
    width, height = sides(chance)
    kind, most = chance.randint(1, 6), chance.choice((255, 65535, 100, 65000, 1))
    gap = chance.choice((b" ", b"\n", b"#a\n"))
    many = times(chance, gap) if chance.randrange(3) == 0 else gap
    head = b"P%d%b%d %d%b" % (
        kind,
        b"\n" + many,
        width,
        height,
        b"" if kind in (1, 4) else b" %d" % most,
    )
    return (head + b"\n" + times(chance, chance.choice((b"#\n", b"0 ", b"1", b"\0", b"\xff"))))[
        :MOST
    ]


def webp(chance: random.Random) -> bytes:
    one = saved("WEBP", 200, 160)
    chunk = chance.choice((b"abcd", b"EXIF", b"ICCP", b"ANMF", b"ALPH", b"VP8 "))
    content = bytes(chance.choice((0, 2, 16, 100)))
    chunks = times(chance, chunk + struct.pack("<I", len(content)) + content)
    width, height = sides(chance)
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    flags = chance.choice((0, 2, 16, 4))
    extended = b"VP8X" + struct.pack("<IB3x", 10, flags) + canvas
    match chance.randrange(5):
        case 0:
            body = b"WEBP" + extended + chunks + one[12:]
        case 1:
            body = b"WEBP" + extended + one[12:] + chunks
        case 2:
            body = b"WEBP" + one[12:] + chunks
        case 3:
            return large(chance, "WEBP", "RGB RGBA", method=0, quality=5)
        case _:
            return large(chance, "WEBP", "RGB", lossless=True, method=0, quality=0)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def boxes(chance: random.Random, kind: str, **options: object) -> bytes:
    """Return an AVIF or HEIC file, which consists of boxes."""
    one = saved(kind, 200, 160, **options)
    place = one.index(b"meta") - 4
    box = struct.pack(">I", 8) + chance.choice((b"free", b"meta", b"moov", b"iloc", b"uuid"))
    match chance.randrange(4):
        case 0:
            return one[:place] + times(chance, box) + one[place:]
        case 1:
            inside = times(chance, box)
            size = int.from_bytes(one[place : place + 4], "big")
            head = struct.pack(">I", size + len(inside)) + one[place + 4 : place + 12]
            return one[:place] + head + inside + one[place + 12 :]
        case 2:
            extent = one.index(b"ispe") + 8
            claimed = struct.pack(">II", *sides(chance))
            return one[:extent] + claimed + one[extent + 8 :]
        case _:
            return large(chance, kind, "RGB RGBA", **options)


def json_text(chance: random.Random) -> bytes:
    """Return JSON for any of the routes that read it."""
    element = chance.choice(
        (
            b"[],",
            b"{},",
            b"0,",
            b"[0],",
            b'"",',
            b'{"":0},',
            b"0.1,",
            b"1e9,",
            b'"\\u0041",',
            b"[",
            b'{"b64":""},',
            b"9" * 4299 + b",",
            b" ",
            b'"image":"",',
            b'"%d":0,' % chance.getrandbits(20),
        )
    )
    inside = times(chance, element)
    opening, closing = chance.choice(
        (
            (b'{"images":[', b'""]}'),
            (b'{"image":"', b'"}'),
            (b"{", b'"image":""}'),
            (b'{"instances":[', b"0]}"),
            (b'{"x":[', b'0],"inputs":[]}'),
            (b'{"inputs":[{"name":"images","datatype":"FP32","shape":[1,28,28],"data":[', b"0]}]}"),
        )
    )
    return opening + inside + closing


def gzipped(chance: random.Random) -> bytes:
    inside = chance.choice((b"", b"a", bytes(1 << 20), b"[],"))
    match chance.randrange(3):
        case 0:
            return times(chance, gzip.compress(inside, 9))
        case 1:
            return gzip.compress(json_text(chance), 1)
        case _:  # stored blocks without content
            return (
                gzip.compress(b"")[:10] + times(chance, b"\0\0\0\xff\xff") + gzip.compress(b"")[10:]
            )


def simple(chance: random.Random) -> bytes:
    """Return a file that the worker decodes itself, as expensive as possible."""
    packed = zlib.compress(bytes(1 << 20))
    notes = chance.randint(0, 4) * png_chunk(b"zTXt", b"a\0\0" + packed)
    notes += chance.randint(0, 80) * png_chunk(b"tEXt", b"a\0" + bytes(chance.randrange(1000)))
    side, mode = chance.choice((300, 700, 1000)), chance.choice(("L", "RGB", "RGBA", "P"))
    if mode != "P" and chance.randrange(2):
        data = saved("JPEG", side, side, mode[:3], quality=chance.choice((5, 20, 50)))
    else:
        data = saved("PNG", side, side, mode, compress_level=chance.choice((1, 9)))
        data = data[:33] + notes + data[33:]
    return data if is_simple(data) else simple(chance)


FORMATS: dict[str, Callable[[random.Random], bytes]] = {
    "JPEG": jpeg,
    "PNG": png,
    "GIF": gif,
    "TIFF": tiff,
    "BMP": bmp,
    "PPM": ppm,
    "WebP": webp,
    "AVIF": lambda chance: boxes(chance, "AVIF", speed=10),
    "small PNG, JPEG": simple,
    "JSON": json_text,
    "gzip": gzipped,
}
if HEIC_IS_READ:
    FORMATS["HEIC"] = lambda chance: boxes(chance, "HEIF")
