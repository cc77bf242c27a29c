"""What a network learned from and what the service shows it of the same file are the same."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from app.images.decode import SIGNATURES, decode, prepare
from models.cards import ImageInput, Resize, Style
from models.data.reading import FORMATS, UnreadableError, read_picture

ORIENTATION = 0x0112


def picture(mode: str, size: tuple[int, int] = (150, 90)) -> Image.Image:
    """A picture with a different colour at each place, in one of Pillow's modes."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    image = Image.fromarray(np.stack([x, y, 255 - x], axis=-1).astype(np.uint8))
    if mode == "I;16":
        return Image.fromarray((257 * y).astype(np.uint16))
    if mode in ("LA", "RGBA"):
        image = image.convert(mode)
        image.putalpha(Image.fromarray(x.astype(np.uint8)))
        return image
    return image.convert(mode)


def saved(image: Image.Image, kind: str, **how: object) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, kind, **how)
    return encoded.getvalue()


def target(resize: Resize, channels: int = 3) -> ImageInput:
    return ImageInput(48, 64, channels, "photo", (0.5,) * channels, (0.25,) * channels, resize)


def compare(content: bytes, given: ImageInput) -> None:
    ours = read_picture(content, given).pixels
    served = prepare(decode(content, max_pixels=10**7, smallest=(given.height, given.width)), given)
    np.testing.assert_array_equal(ours, np.round(255 * served.first.pixels).astype(np.uint8))


@pytest.mark.parametrize("resize", ["fit", "crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(150, 90), (40, 200), (64, 48), (900, 700)])
def test_a_photo_of_any_size_is_cropped_padded_and_stretched_alike(
    resize: Resize, size: tuple[int, int]
) -> None:
    for channels in (1, 3):
        compare(saved(picture("RGB", size), "JPEG", quality=90), target(resize, channels))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
def test_every_mode_of_png_becomes_the_same_colours(mode: str) -> None:
    compare(saved(picture(mode), "PNG"), target("crop"))


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_photo_that_was_turned_stands_upright_in_both(turn: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    compare(saved(picture("RGB"), "JPEG", exif=exif, quality=95), target("pad"))


def test_cmyk_and_a_large_jpeg_that_is_read_at_a_part_are_the_same() -> None:
    compare(saved(picture("CMYK"), "JPEG"), target("crop"))
    compare(saved(picture("RGB", (3000, 2000)), "JPEG"), target("crop"))


@pytest.mark.parametrize("style", ["digit", "garment"])
@pytest.mark.parametrize(
    ("paper", "ink"), [("white", "black"), ("#f2ecdd", "navy"), ("black", "white")]
)
def test_a_mark_on_even_paper_is_found_and_placed_alike(style: Style, paper: str, ink: str) -> None:
    given = ImageInput(28, 28, 1, style, (0.1,), (0.3,))
    for mark in "0123456789AZ":
        image = Image.new("RGB", (200, 220), paper)
        draw = ImageDraw.Draw(image)
        draw.text((40, 20), mark, fill=ink, font=ImageFont.load_default(100))
        content = saved(image, "PNG")
        ours = read_picture(content, given).pixels / 255
        served = prepare(decode(content, max_pixels=10**7, smallest=(28, 28)), given).first.pixels
        assert np.corrcoef(ours.ravel(), served.ravel())[0, 1] > 0.98
        assert np.abs(ours - served).mean() < 0.02


def test_both_read_the_same_formats() -> None:
    assert set(FORMATS) == {kind for _, kind in SIGNATURES}
    with pytest.raises(UnreadableError, match="no picture of a known format"):
        read_picture(b"%PDF-1.4", target("crop"))
