"""PNGs in the plainest form are read as all others are, and nothing else is taken for one."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image

from app.errors import RequestError
from app.images.decode import decode
from app.images.plain_png import read_plain_png

MANY = 10**7
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png(
    head: bytes, packed: bytes, before: bytes = b"", between: bytes = b"", after: bytes = b""
) -> bytes:
    """Return a PNG with right checksums, and with further chunks where they are given."""
    pixels = chunk(b"IDAT", packed)
    return (
        SIGNATURE + chunk(b"IHDR", head) + before + pixels + between + chunk(b"IEND", b"") + after
    )


def head(width: int, height: int, bits: int = 8, colour: int = 0, *more: int) -> bytes:
    return struct.pack(">IIBBBBB", width, height, bits, colour, *(more or (0, 0, 0)))


def rows(
    random: np.random.Generator, width: int, height: int, channels: int, most_filter: int = 4
) -> bytes:
    """Return rows of noise, each with a filter of any type."""
    made = random.integers(0, 256, (height, 1 + width * channels), np.uint8)
    made[:, 0] = random.integers(0, most_filter + 1, height)
    return made.tobytes()


def outcome(read: Callable[[], Image.Image | None]) -> tuple[object, ...]:
    """Return all that the rest of the service sees of a picture, or its error."""
    try:
        image = read()
    except RequestError as error:
        return error.status, error.code, error.message
    assert image is not None
    return image.mode, image.size, image.tobytes(), dict(image.info)


def by_pillow(data: bytes) -> tuple[object, ...]:
    return outcome(lambda: decode(data, max_pixels=MANY, smallest=(28, 28), simple=True).image)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("size", [(28, 28), (32, 32), (1, 1), (1, 300), (100, 60)])
def test_what_programs_write_is_read(mode: str, size: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    shape = (size[1], size[0], 3) if mode == "RGB" else size[::-1]
    noise = random.integers(0, 256, shape)
    buffer = io.BytesIO()
    Image.fromarray(noise.astype(np.uint8)).save(buffer, "PNG")
    image = read_plain_png(buffer.getvalue(), MANY)
    assert image is not None
    assert (image.mode, image.size) == (mode, size)
    assert np.array_equal(np.asarray(image), noise)


def unusual() -> Iterator[tuple[str, bytes]]:
    """Yield PNGs whose meaning Pillow's reader of chunks knows, or that are broken."""
    random = np.random.default_rng(2)
    packed = zlib.compress(rows(random, 28, 28, 1))
    usual, grey = png(head(28, 28), packed), head(28, 28)
    yield "transparent level", png(grey, packed, chunk(b"tRNS", b"\0\7"))
    yield "gamma", png(grey, packed, chunk(b"gAMA", struct.pack(">I", 45455)))
    yield "colour profile", png(grey, packed, chunk(b"iCCP", b"x\0\0" + zlib.compress(b"none")))
    yield "code points", png(grey, packed, chunk(b"cICP", b"\x09\x10\0\1"))
    yield (
        "orientation",
        png(grey, packed, chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")),
    )
    yield "text behind", png(grey, packed, between=chunk(b"tEXt", b"Title\0seven"))
    yield "in two pieces", png(grey, packed[:50], between=chunk(b"IDAT", packed[50:]))
    yield "more behind the end", usual + b"\0"
    yield "palette", png(head(28, 28, 8, 3), packed, chunk(b"PLTE", bytes(768)))
    yield "with alpha", png(head(14, 28, 8, 4), zlib.compress(rows(random, 14, 28, 2)))
    yield "16 bits", png(head(14, 28, 16), zlib.compress(rows(random, 14, 28, 2)))
    yield "4 bits", png(head(56, 28, 4), packed)
    yield "interlaced", png(head(28, 28, 8, 0, 0, 0, 1), zlib.compress(bytes(2000)))
    yield "animated", png(grey, packed, chunk(b"acTL", struct.pack(">II", 1, 0)))
    yield "wrong checksum of the head", usual[:29] + b"\0\0\0\0" + usual[33:]
    yield "wrong checksum of the pixels", usual[:-16] + b"\0\0\0\0" + usual[-12:]
    yield "wrong checksum of the end", usual[:-4] + b"\0\0\0\0"
    yield "too long a length", usual[:33] + b"\x7f\xff\xff\xff" + usual[37:]
    yield "too short a length", usual[:33] + b"\0\0\0\1" + usual[37:]
    yield (
        "end before the pixels",
        SIGNATURE + chunk(b"IHDR", grey) + chunk(b"IEND", b"") + usual[33:],
    )
    yield "pixels before the head", SIGNATURE + usual[33:-12] + usual[8:33] + usual[-12:]
    yield "huge", png(head(2**31 - 1, 2**31 - 1), packed)
    yield "no width", png(head(0, 28), packed)
    yield "cut off", png(grey, packed[:-100])
    yield "no pixels", png(grey, b"")
    yield "unknown filter", png(grey, zlib.compress(28 * (b"\x05" + bytes(28))))
    yield "unknown compression", png(head(28, 28, 8, 0, 1, 0, 0), packed)
    yield "not compressed", png(grey, rows(random, 28, 28, 1))
    yield "head alone", usual[:33]
    yield "nothing", b""


UNUSUAL = dict(unusual())


@pytest.mark.parametrize("name", UNUSUAL)
def test_anything_else_goes_on_to_pillow(name: str) -> None:
    assert read_plain_png(UNUSUAL[name], MANY) is None


def test_more_pixels_than_allowed_are_refused_by_the_other_reader() -> None:
    data = png(head(28, 28), zlib.compress(rows(np.random.default_rng(3), 28, 28, 1)))
    assert read_plain_png(data, 783) is None
    assert read_plain_png(data, 784) is not None


def mutated(random: np.random.Generator) -> bytes:
    """Return a small PNG, whole or damaged somewhere, mostly with right checksums."""
    width, height = (int(side) for side in random.integers(1, 9, 2))
    channels = int(random.choice((1, 3)))
    raw = rows(random, width, height, channels, most_filter=int(random.choice((4, 4, 4, 5))))
    raw = raw[: random.integers(len(raw) + 1)] if random.random() < 0.1 else raw
    raw += random.bytes(random.integers(1, 40)) if random.random() < 0.1 else b""
    packer = zlib.compressobj(int(random.integers(10)), zlib.DEFLATED, int(random.integers(9, 16)))
    packed = packer.compress(raw) + packer.flush()
    kind = random.random()
    if kind < 0.2:
        packed = packed[: random.integers(len(packed))]
    elif kind < 0.3:
        packed += random.bytes(random.integers(1, 20))
    elif kind < 0.5:
        at = int(random.integers(len(packed)))
        packed = packed[:at] + random.bytes(1) + packed[at + 1 :]
    colour = {1: 0, 3: 2}[channels]
    said = head(
        width + int(random.random() < 0.05), height + int(random.random() < 0.05), 8, colour
    )
    data = png(said, packed)
    if random.random() < 0.3:  # wrong checksums, mostly
        at = int(random.integers(len(data)))
        data = data[:at] + random.bytes(1) + data[at + 1 :]
    return data


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_read_as_pillow_reads_them(seed: int) -> None:
    random, taken = np.random.default_rng(seed), 0
    for _ in range(500):
        data = mutated(random)
        image = read_plain_png(data, MANY)
        if image is not None:
            taken += 1
            assert outcome(lambda image=image: image) == by_pillow(data), data  # type: ignore[misc]
    assert taken > 100
