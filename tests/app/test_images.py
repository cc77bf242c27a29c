"""Bytes -> picture -> array: sizes, values, and every way in which a file can be wrong."""

import io
import os
import random
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.errors import RequestError
from app.images.decode import HEIC_IS_READ, Picture, decode, prepare
from app.images.styles import Reading
from models.cards import ImageInput
from models.data.datasets import DATASETS
from scripts.draw_samples import SAMPLES, TABLES
from scripts.samples.digits import draw_digit

DIGIT = ImageInput(28, 28, 1, "digit", (0.1307,), (0.3081,))
GARMENT = ImageInput(28, 28, 1, "garment", (0.286,), (0.353,))
PHOTO = ImageInput(32, 32, 3, "photo", (0.5,) * 3, (0.25,) * 3)
EVERY_STYLE = (DIGIT, GARMENT, PHOTO)
LIMIT = 50_000_000
ROOT = Path(__file__).parents[2]


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def read(data: bytes, target: ImageInput = DIGIT, *, raw: bool = False) -> Reading:
    image = decode(data, max_pixels=LIMIT, smallest=(target.height, target.width))
    return prepare(image, target, raw=raw).first


def refusal(data: bytes, target: ImageInput = DIGIT, max_pixels: int = LIMIT) -> RequestError:
    with pytest.raises(RequestError) as caught:
        prepare(decode(data, max_pixels=max_pixels, smallest=(28, 28)), target)
    return caught.value


def png_chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


def png_claiming(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(100))
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def blob(size: int) -> np.ndarray:
    """A light shape of `size` pixels in the middle of 28x28 black ones, in many shades."""
    quarter = 40 + np.arange(size**2 // 4).reshape(size // 2, size // 2) % 216
    half = np.hstack((quarter, quarter[:, ::-1]))
    whole = np.vstack((half, half[::-1])).astype(np.uint8)
    return np.pad(whole, (28 - size) // 2)


# What is not a picture ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PN",
        b"Dear sir, this is a text that somebody renamed to picture.png.\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7\n",
        b"BM is how a bitmap begins, and this text too.",
        b"P5 is not always a portable grey map",
        b"RIFF\x10\0\0\0WAVEfmt ",
        bytes(1000),
    ],
    ids=["empty", "cut", "text", "svg", "pdf", "text-BM", "text-P5", "wav", "zeros"],
)
def test_what_is_not_a_picture_is_refused_as_such(data: bytes) -> None:
    error = refusal(data)
    assert (error.status, error.code) == (415, "not_an_image")
    assert "PNG, JPEG" in error.message


def test_an_iphone_picture_is_read() -> None:
    pytest.importorskip("pillow_heif")
    turned = draw_digit(7).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.info["exif"] = exif.tobytes()  # from which its writer makes what phones write
    told = read(encode(turned, "HEIF")), read(encode(draw_digit(7)))
    assert told[0].steps == told[1].steps  # its decoder turns it
    assert np.abs(told[0].pixels - told[1].pixels).max() < 0.1


def test_an_iphone_picture_is_named_in_its_refusal_where_its_decoder_is_missing() -> None:
    program = """
import sys
sys.modules["pillow_heif"] = None
from app.images import decode as images
images.decode(b"\\0\\0\\0\\x24ftypheic" + bytes(40), max_pixels=100, smallest=(28, 28))
"""
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "RequestError: HEIC pictures are not supported here" in result.stderr


# What is broken -----------------------------------------------------------------------------


KINDS = ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF"]
KINDS += ["HEIF"] * HEIC_IS_READ


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused_as_unreadable(kind: str, share: float) -> None:
    data = encode(draw_digit(3), kind)
    error = refusal(data[: int(share * len(data))])
    assert (error.status, error.code) == (400, "unreadable_image")
    assert "damaged or incomplete" in error.message


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [(640, 480), (41, 37)])
def test_a_jpeg_without_its_end_is_read_and_one_without_pixels_is_not(
    size: tuple[int, int], progressive: bool, subsampling: int
) -> None:
    grain = np.random.default_rng(1).integers(0, 256, (*size[::-1], 3), np.uint8)
    options = {"progressive": progressive, "subsampling": subsampling}
    whole = encode(Image.fromarray(grain), "JPEG", **options)
    assert np.array_equal(read(whole[:-2], PHOTO).pixels, read(whole, PHOTO).pixels)
    for remains in (b"\xff", b"\xff\xff", b"\x00"):  # of the mark of its end
        assert np.array_equal(read(whole[:-2] + remains, PHOTO).pixels, read(whole, PHOTO).pixels)
    assert refusal(whole[: -len(whole) // 20], PHOTO).code == "unreadable_image"
    assert refusal(whole[: -len(whole) // 20] + b"\xff", PHOTO).code == "unreadable_image"


@pytest.mark.parametrize(
    ("kind", "cut"),
    [("PNG", 12), ("PNG", 20), ("GIF", 1), ("GIF", 2), ("GIF", 3), ("BMP", 2), ("WEBP", 1)],
)
def test_a_file_that_lacks_only_what_is_no_pixel_is_read(kind: str, cut: int) -> None:
    for width in range(38, 60, 4):  # rows of BMP are padded by two bytes
        image = draw_digit(7, (width, 40))
        whole = encode(image, kind)
        if kind == "WEBP" and whole[-1]:
            continue  # not padded
        assert np.array_equal(read(whole[:-cut]).pixels, read(whole).pixels)


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PPM", "GIF"])
def test_a_file_that_lacks_a_pixel_is_refused(kind: str) -> None:
    grain = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)
    assert refusal(encode(Image.fromarray(grain), kind)[:-6]).code == "unreadable_image"


def test_a_picture_without_pixels_is_refused() -> None:
    bitmap = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54)
    bitmap += struct.pack("<IiiHHIIiiII", 40, 0, 0, 1, 24, 0, 0, 0, 0, 0, 0)
    for data in (png_claiming(0, 0), png_claiming(0, 7), bitmap, b"GIF89a" + bytes(7) + b";"):
        assert refusal(data).status == 400


def make_files() -> dict[str, bytes]:
    turned = Image.Exif()
    turned[0x0112] = 6
    digit = draw_digit(7, (40, 36))
    second = draw_digit(2, (40, 36))
    grey = digit.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    return {
        "png": encode(digit, exif=turned),
        "png-palette": encode(digit.convert("P")),
        "png-rgba": encode(draw_digit(7, (40, 36), paper=None)),
        "png-16": encode(deep),
        "jpeg": encode(digit, "JPEG", exif=turned),
        "jpeg-progressive": encode(digit, "JPEG", progressive=True),
        "jpeg-cmyk": encode(digit.convert("CMYK"), "JPEG"),
        "gif": encode(digit, "GIF", save_all=True, append_images=[second]),
        "webp": encode(digit, "WEBP", exif=turned),
        "webp-animated": encode(digit, "WEBP", save_all=True, append_images=[second]),
        "avif": encode(digit, "AVIF"),
        "bmp": encode(digit, "BMP"),
        "bmp-1": encode(digit.convert("1"), "BMP"),
        "tiff": encode(digit, "TIFF"),
        "tiff-lzw": encode(digit, "TIFF", compression="tiff_lzw"),
        "tiff-float": encode(grey.convert("F"), "TIFF"),
        "ppm": encode(digit, "PPM"),
        **({"heic": encode(digit, "HEIF", exif=turned)} if HEIC_IS_READ else {}),
    }


FILES = make_files()


def broken(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.25:
        return data[: rng.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        near = min(len(data), 200) if rng.random() < 0.6 else len(data)
        changed[rng.randrange(near)] ^= rng.choice((1 << rng.randrange(8), rng.randrange(1, 256)))
    return bytes(changed)


def outcome(data: bytes, target: ImageInput, raw: bool) -> Reading | RequestError:
    try:
        image = decode(data, max_pixels=1_000_000, smallest=(target.height, target.width))
        return prepare(image, target, raw=raw).first
    except RequestError as error:
        return error


# pytest resets the filter that app.images.decode sets for Pillow's warnings.
@pytest.mark.filterwarnings(r"ignore:::PIL\.")
@pytest.mark.parametrize("name", FILES)
def test_no_broken_file_ends_in_anything_but_an_array_or_a_refusal(name: str) -> None:
    rng = random.Random(name)
    for turn in range(60):
        target = EVERY_STYLE[turn % 3]
        result = outcome(broken(FILES[name], rng), target, raw=turn % 4 == 0)
        if isinstance(result, RequestError):
            assert result.status in (400, 413, 415, 422)
        else:
            assert result.pixels.shape == (target.height, target.width, target.channels)
            assert result.pixels.dtype == np.float32
            assert 0 <= result.pixels.min() <= result.pixels.max() <= 1


@pytest.mark.filterwarnings(r"ignore:::PIL\.")
def test_broken_orientation_does_not_cost_the_picture() -> None:
    data = encode(draw_digit(7), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    assert read(data).pixels.max() == 1


def test_colours_that_cannot_be_converted_are_refused() -> None:
    data = encode(Image.new("LAB", (40, 40)), "TIFF")
    assert refusal(data).status == 400


# What is too large or too small ---------------------------------------------------------------


def test_a_tiny_file_that_claims_to_be_huge_is_refused() -> None:
    error = refusal(png_claiming(60_000, 60_000))
    assert (error.status, error.code) == (413, "too_many_pixels")
    assert "3600000000 pixels" in error.message
    assert "50000000" in error.message


@pytest.mark.parametrize("size", [(7100, 7100), (10_000, 10_000)])
@pytest.mark.filterwarnings(r"ignore:::PIL\.")
def test_a_well_compressed_bomb_is_refused_by_its_size(size: tuple[int, int]) -> None:
    data = encode(Image.new("1", size))
    assert len(data) < 100_000
    error = refusal(data)
    assert (error.status, error.code) == (413, "too_many_pixels")
    assert error.details == {"max_pixels": LIMIT, "width": size[0], "height": size[1]}


def test_pillows_own_alarm_is_a_refusal_too_when_warnings_are_errors() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refusal(png_claiming(10_000, 10_000)).code == "too_many_pixels"


def test_the_pixel_limit_holds_for_what_the_file_has_not_for_what_is_decoded() -> None:
    data = encode(draw_digit(5, (1600, 1600)).convert("L"), "JPEG")
    picture = decode(data, max_pixels=1600 * 1600, smallest=(28, 28))
    assert picture.image.size < picture.size == (1600, 1600)
    assert refusal(data, max_pixels=1600 * 1600 - 1).code == "too_many_pixels"


def test_a_tiff_with_gigantic_tiles_is_refused() -> None:
    entries = [(256, 64), (257, 64), (258, 8), (259, 8), (262, 1), (277, 1), (322, 65_520)]
    entries += [(323, 65_520), (324, 8), (325, 8)]
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + table + bytes(4)
    error = refusal(data)
    assert (error.status, error.code) == (413, "too_many_pixels")
    assert "tiles" in error.message


def test_a_jpeg_with_a_thousand_scans_is_refused() -> None:
    data = encode(draw_digit(5).convert("L"), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    error = refusal(data[:start] + data[start:-2] * 1000 + data[-2:])
    assert (error.status, error.code) == (400, "unreadable_image")
    assert "scans" in error.message


@pytest.mark.parametrize("target", EVERY_STYLE, ids=lambda target: target.style)
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (300, 1)])
def test_a_picture_of_a_few_pixels_is_refused(target: ImageInput, size: tuple[int, int]) -> None:
    error = refusal(encode(Image.new("L", size, 200)), target)
    assert (error.status, error.code) == (422, "image_too_small")
    assert f"{size[0]}x{size[1]}" in error.message


def noise(size: tuple[int, int]) -> Image.Image:
    grain = np.random.default_rng(3).normal(200, 9, size).clip(0, 255)
    return Image.fromarray(grain.astype(np.uint8))


@pytest.mark.parametrize("target", [DIGIT, GARMENT], ids=lambda target: target.style)
@pytest.mark.parametrize(
    "image",
    [
        Image.new("L", (28, 28)),
        Image.new("L", (28, 28), 255),
        Image.new("RGB", (300, 200), "teal"),
        Image.new("RGBA", (64, 64)),
        Image.new("P", (64, 64)),
        Image.linear_gradient("L"),
        noise((300, 400)),
    ],
    ids=["black", "white", "colour", "transparent", "palette", "gradient", "empty paper's photo"],
)
def test_a_blank_picture_is_refused(target: ImageInput, image: Image.Image) -> None:
    error = refusal(encode(image), target)
    assert (error.status, error.code) == (422, "no_content")


# What the arrays hold -------------------------------------------------------------------------


@pytest.mark.parametrize("target", [DIGIT, GARMENT], ids=lambda target: target.style)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "I;16"])
def test_a_picture_as_in_the_data_set_passes_exactly(target: ImageInput, mode: str) -> None:
    array = blob(20 if target is DIGIT else 26)
    if mode == "I;16":
        image = Image.fromarray(array.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(array).convert(mode)
    kind = "TIFF" if mode == "CMYK" else "PNG"
    prepared = read(encode(image, kind), target)
    assert prepared.steps == ("already as in the data set: unchanged",)
    assert np.array_equal(prepared.pixels[..., 0], array.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize(("target", "size"), [(DIGIT, 20), (GARMENT, 26)], ids=["digit", "garment"])
def test_the_negative_of_a_data_set_picture_is_inverted_exactly(
    target: ImageInput, size: int
) -> None:
    prepared = read(encode(Image.fromarray(255 - blob(size))), target)
    assert prepared.steps[0] == "inverted (dark ink on light paper)"
    assert np.array_equal(prepared.pixels[..., 0], blob(size).astype(np.float32) / np.float32(255))


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "target"), [("mnist", DIGIT), ("fashion_mnist", GARMENT)], ids=["mnist", "fashion"]
)
def test_every_training_image_and_its_negative_passes_exactly(
    name: str, target: ImageInput
) -> None:
    with np.load(Path(os.environ["METAPLASTIC_DATA"]) / f"{name}.npz") as arrays:
        images = arrays["x_train"]
    for image in images:
        expected = image.astype(np.float32) / np.float32(255)
        for sent in (image, 255 - image):
            picture = Picture(Image.fromarray(sent), sent.shape)
            assert np.array_equal(prepare(picture, target).first.pixels[..., 0], expected)


def test_a_photo_of_the_right_size_passes_exactly() -> None:
    array = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    prepared = read(encode(Image.fromarray(array)), PHOTO)
    assert prepared.steps == ("already as in the data set: unchanged",)
    assert np.array_equal(prepared.pixels, array.astype(np.float32) / np.float32(255))


def test_a_digit_fills_twenty_pixels_and_its_mass_is_in_the_middle() -> None:
    for digit in range(10):
        ink = read(encode(draw_digit(digit, (300, 200), height=0.4, centre=(0.8, 0.3)))).pixels
        rows, columns = np.flatnonzero(ink.max((1, 2)) > 0), np.flatnonzero(ink.max((0, 2)) > 0)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
        assert ink.max() == 1
        middle = ink[..., 0].sum(1) @ np.arange(28), ink[..., 0].sum(0) @ np.arange(28)
        assert np.allclose(np.divide(middle, ink.sum()), 14, atol=0.51)


def test_every_step_is_told() -> None:
    turned = Image.Exif()
    turned[0x0112] = 8
    image = draw_digit(4, (200, 300), pen=0.02, paper=None)
    assert read(encode(image, exif=turned)).steps == (
        "applied EXIF orientation",
        "flattened transparency onto white",
        "inverted (dark ink on light paper)",
        "cropped to the ink",
        "thickened thin strokes",
        "scaled to fit 20x20",
        "centred by mass in 28x28",
    )


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 32 * 32).reshape(32, 32)
    deep = read(encode(Image.fromarray(ramp.astype(np.uint16))), PHOTO).pixels
    assert np.allclose(deep[..., 0], ramp / 65535, atol=0.003)


@pytest.mark.parametrize(
    ("ink", "step"),
    [
        ("white", "flattened transparency onto black"),
        ("#204060", "flattened transparency onto white"),
    ],
)
def test_transparency_is_laid_on_what_contrasts(ink: str, step: str) -> None:
    prepared = read(encode(draw_digit(2, ink=ink, paper=None)))
    assert prepared.steps[0] == step


def test_a_photo_loses_at_most_a_quarter_of_its_longer_side() -> None:
    wide = np.zeros((300, 450, 3), np.uint8)
    wide[:, 57:-57] = 255  # the middle three quarters
    prepared = read(encode(Image.fromarray(wide)), PHOTO)
    assert prepared.pixels.min() > 0.8
    assert "cropped to the middle 338x300" in prepared.steps


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpegs_crop_is_told_in_its_own_pixels(orientation: int) -> None:
    """Fewer pixels are decoded."""
    turned = Image.Exif()
    turned[0x0112] = orientation
    data = encode(Image.new("RGB", (3000, 2000), "teal"), "JPEG", exif=turned)
    expected = "2250x2000" if orientation == 1 else "2000x2250"
    assert f"cropped to the middle {expected}" in read(data, PHOTO).steps


def test_a_photos_transparency_becomes_white() -> None:
    prepared = read(encode(Image.new("RGBA", (64, 64), (9, 9, 9, 0))), PHOTO)
    assert prepared.pixels.min() == 1
    assert prepared.steps[0] == "flattened transparency onto white"


def test_a_garment_is_trimmed_centred_and_keeps_its_shades() -> None:
    paper = np.full((300, 200), 255, np.uint8)
    paper[20:160, 30:65] = 0
    paper[20:160, 65:100] = 128
    cloth = read(encode(Image.fromarray(paper)), GARMENT).pixels[..., 0]
    lit = np.flatnonzero(cloth.max(0) > 0.2)
    assert (lit[0], lit[-1]) == (7, 20)
    assert cloth[:, 8:12].mean() == pytest.approx(1, abs=0.02)
    assert cloth[:, 16:20].mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("garment", sorted(TABLES["fashion-mnist"]))
def test_a_garment_that_fills_the_picture_is_seen_as_with_a_margin(garment: str) -> None:
    picture = Image.open(SAMPLES / "fashion-mnist" / f"{garment}.png").convert("RGB")
    ink = np.asarray(picture.convert("L")) < 235
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    tight = (columns[0] - 2, rows[0] - 2, columns[-1] + 3, rows[-1] + 3)
    whole, filled = (
        read(encode(image), GARMENT).pixels for image in (picture, picture.crop(tight))
    )
    assert np.corrcoef(whole.ravel(), filled.ravel())[0, 1] > 0.97


def test_raw_changes_nothing_but_mode_and_size() -> None:
    turned = Image.Exif()
    turned[0x0112] = 3
    prepared = read(encode(draw_digit(6, (28, 28)), exif=turned), raw=True)
    plain = np.asarray(draw_digit(6, (28, 28)).convert("L"), np.float32)
    assert prepared.steps == ()
    assert np.array_equal(prepared.pixels[..., 0], plain / np.float32(255))
    assert read(encode(draw_digit(6)), PHOTO, raw=True).steps == ("resized to 32x32",)
    see_through = draw_digit(6, paper=None).quantize(8)
    assert read(encode(see_through), raw=True).steps == ("resized to 28x28",)


# The service's own samples --------------------------------------------------------------------


@pytest.mark.parametrize("dataset", TABLES)
def test_the_samples_are_what_the_script_draws(dataset: str) -> None:
    table = TABLES[dataset]
    folder: Path = SAMPLES / dataset
    assert {path.stem for path in folder.iterdir()} == set(table)
    for name, sample in table.items():
        assert sample.label in DATASETS[dataset].labels
        drawn = sample.draw()
        with Image.open(folder / f"{name}.png") as committed:
            assert (committed.mode, committed.size) == (drawn.mode, drawn.size)
            # Another processor may round the last bit of a shade otherwise.
            difference = np.asarray(committed, np.int16) - np.asarray(drawn, np.int16)
        assert np.abs(difference).max() <= 2


@pytest.mark.parametrize("dataset", TABLES)
def test_the_samples_are_small_files_that_their_data_sets_preparation_takes(dataset: str) -> None:
    target = DATASETS[dataset].input
    for name in TABLES[dataset]:
        data = (SAMPLES / dataset / f"{name}.png").read_bytes()
        assert len(data) < 40_000
        assert read(data, target).pixels.shape == (target.height, target.width, target.channels)
