"""Digits in every form in which people send them, read by the published network.

Each test draws all ten digits, sends each as a file, and expects ten right labels.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image, ImageDraw

from app.images.decode import decode, prepare
from models.cards import ONNX_MODEL, find_models
from scripts.draw_samples import SAMPLES
from scripts.samples.digits import WORDS, digit_mask, draw_digit

REPOSITORY = Path(os.environ.get("METAPLASTIC_WEIGHTS") or Path(__file__).parents[2] / "weights")

Draw = Callable[[int], Image.Image]
Check = Callable[..., None]


@pytest.fixture(scope="module")
def check() -> Check:
    """Expects that the network reads the ten digits that a function draws (or sends as bytes)."""
    models = [found for found in find_models(REPOSITORY) if found[1].endpoint == "mnist/lenet"]
    folder, card = next(found for found in models if found[1].default)
    session = onnxruntime.InferenceSession(folder / ONNX_MODEL)
    name = session.get_inputs()[0].name

    def check_digits(draw: Callable[[int], Image.Image | bytes], kind: str = "PNG", **how) -> None:
        arrays = []
        for digit in range(10):
            sent = draw(digit)
            data = sent if isinstance(sent, bytes) else encode(sent, kind, **how)
            image = decode(data, max_pixels=50_000_000, smallest=(28, 28))
            arrays.append(prepare(image, card.input).first.pixels)
        (logits,) = session.run(None, {name: np.stack(arrays)})
        read = [card.labels[best] for best in logits.argmax(1)]
        assert read == [str(digit) for digit in range(10)]

    return check_digits


def encode(image: Image.Image, kind: str, **how: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def test_the_services_own_samples_are_read(check: Check) -> None:
    check(lambda digit: (SAMPLES / "mnist" / f"{WORDS[digit]}.png").read_bytes())


def test_black_ink_on_white_paper_is_read(check: Check) -> None:
    check(draw_digit)


def test_white_ink_on_black_is_read(check: Check) -> None:
    check(lambda digit: draw_digit(digit, ink="white", paper="black"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize(
    ("ink", "paper"),
    [
        ("red", "white"),
        ("navy", "lightblue"),
        ("yellow", "white"),
        ("pink", "white"),
        ("white", "green"),
        ("orange", "cyan"),
        ("red", "#008200"),  # from here on of the same lightness
        ("#00b000", "#b05a5a"),
        ("#808080", "#a08060"),
    ],
)
def test_ink_and_paper_of_any_colours_are_read(
    check: Check, ink: str, paper: str, kind: str
) -> None:
    check(lambda digit: draw_digit(digit, ink=ink, paper=paper), kind)


def test_a_digit_in_three_colours_is_read(check: Check) -> None:
    bands = Image.new("RGB", (1, 3))
    bands.putdata([(220, 0, 0), (0, 160, 0), (0, 0, 230)])
    inks = bands.resize((200, 200), Image.Resampling.NEAREST)

    def draw(digit: int) -> Image.Image:
        paper = Image.new("RGB", (200, 200), "#dddddd")
        paper.paste(inks, mask=digit_mask(digit, (200, 200)))
        return paper

    check(draw)


@pytest.mark.parametrize("centre", [(0.12, 0.2), (0.9, 0.84), (0.5, 0.8)])
def test_a_digit_anywhere_on_the_paper_is_read(check: Check, centre: tuple[float, float]) -> None:
    check(lambda digit: draw_digit(digit, (400, 300), height=0.3, centre=centre))


@pytest.mark.parametrize("size", [(10, 14), (20, 20), (28, 28), (64, 64), (300, 900), (900, 200)])
def test_a_picture_of_any_size_and_shape_is_read(check: Check, size: tuple[int, int]) -> None:
    height = 0.7 * min(1, size[0] / size[1])
    check(lambda digit: draw_digit(digit, size, height=height))


@pytest.mark.parametrize("pen", [0.001, 0.002, 0.005, 0.02, 0.1])
def test_a_drawing_2000_pixels_wide_is_read_with_any_pen(check: Check, pen: float) -> None:
    check(lambda digit: draw_digit(digit, (2000, 1500), pen=pen, height=0.6))


def test_a_small_digit_on_a_large_sheet_is_read(check: Check) -> None:
    check(lambda digit: draw_digit(digit, (1500, 1500), height=0.06, centre=(0.3, 0.6)))


@pytest.mark.parametrize("pen", [0.01, 0.03, 0.06, 0.12, 0.18, 0.22])
def test_thin_and_thick_pens_are_read(check: Check, pen: float) -> None:
    check(lambda digit: draw_digit(digit, pen=pen))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("ink", ["black", "white", "red", "yellow", "#777"])
def test_ink_of_any_lightness_on_nothing_is_read(check: Check, ink: str, kind: str) -> None:
    check(lambda digit: draw_digit(digit, ink=ink, paper=None), kind)


def test_grey_with_transparency_is_read(check: Check) -> None:
    check(lambda digit: draw_digit(digit, ink="white", paper=None).convert("LA"))


def test_transparency_that_is_all_opaque_is_read(check: Check) -> None:
    check(lambda digit: draw_digit(digit).convert("RGBA"))


def test_a_round_icon_is_read(check: Check) -> None:
    disc = Image.new("L", (140, 140))
    ImageDraw.Draw(disc).ellipse((2, 2, 137, 137), fill=255)

    def draw(digit: int) -> Image.Image:
        icon = draw_digit(digit, ink="white", paper="#c03030")
        icon.putalpha(disc)
        return icon

    check(draw)


def test_a_palette_with_a_transparent_colour_is_read(check: Check) -> None:
    check(lambda digit: draw_digit(digit).quantize(8), transparency=0)
    check(lambda digit: draw_digit(digit, ink="navy", paper=None).quantize(8))


@pytest.mark.parametrize(("kind", "colours"), [("PNG", 2), ("PNG", 16), ("GIF", 64), ("BMP", 256)])
def test_palettes_are_read(check: Check, kind: str, colours: int) -> None:
    check(lambda digit: draw_digit(digit, ink="navy", paper="wheat").quantize(colours), kind)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
@pytest.mark.parametrize(("ink", "paper"), [(2000, 64000), (41000, 22000)])
def test_sixteen_bit_grey_is_read(check: Check, kind: str, ink: int, paper: int) -> None:
    def draw(digit: int) -> Image.Image:
        share = np.asarray(digit_mask(digit)) / 255
        return Image.fromarray((paper + (ink - paper) * share).astype(np.uint16))

    check(draw, kind)


def test_thirty_two_bit_and_floating_point_tiffs_are_read(check: Check) -> None:
    check(lambda digit: draw_digit(digit).convert("F"), "TIFF")
    check(lambda digit: draw_digit(digit).convert("I"), "TIFF")


def test_cmyk_jpegs_are_read(check: Check) -> None:
    check(lambda digit: draw_digit(digit, ink="navy").convert("CMYK"), "JPEG")
    check(lambda digit: draw_digit(digit, ink="navy").convert("CMYK"), "TIFF")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_one_bit_pictures_are_read(check: Check, kind: str) -> None:
    check(lambda digit: draw_digit(digit).convert("1", dither=Image.Dither.NONE), kind)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "PPM"])
def test_every_format_is_read(check: Check, kind: str) -> None:
    check(draw_digit, kind)


@pytest.mark.parametrize("quality", [5, 20, 50])
def test_poor_jpegs_are_read(check: Check, quality: int) -> None:
    check(draw_digit, "JPEG", quality=quality)


# How a picture must be stored so that the EXIF orientation turns it back.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_exif_orientation_is_applied(check: Check, orientation: int, kind: str) -> None:
    tag = Image.Exif()
    tag[0x0112] = orientation
    turn = STORED[orientation]

    def draw(digit: int) -> Image.Image:
        image = draw_digit(digit, (160, 120))
        return image if turn is None else image.transpose(turn)

    check(draw, kind, exif=tag.tobytes())


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_picture_of_several_is_read(check: Check, kind: str) -> None:
    def send(digit: int) -> bytes:
        others = [draw_digit((digit + step) % 10) for step in (3, 5)]
        return encode(draw_digit(digit), kind, save_all=True, append_images=others)

    check(send)


@pytest.mark.parametrize("light_ink", [False, True], ids=["paper", "blackboard"])
@pytest.mark.parametrize("shadow", [0.3, 0.7])
@pytest.mark.parametrize("grain", [5, 25])
def test_photographs_in_uneven_light_are_read(
    check: Check, light_ink: bool, shadow: float, grain: float
) -> None:
    ink, paper = ("#ebebdc", "#32503c") if light_ink else ("#282d50", "#ebe4d2")
    across, down = np.meshgrid(np.linspace(0, 1, 640), np.linspace(0, 1, 480))
    light = 1 - shadow * (0.7 * across + 0.3 * down)[..., None]

    def draw(digit: int) -> Image.Image:
        scene = np.asarray(draw_digit(digit, (640, 480), ink=ink, paper=paper, height=0.5))
        noise = np.random.default_rng(digit).normal(0, grain, scene.shape)
        return Image.fromarray((scene * light + noise).clip(0, 255).astype(np.uint8))

    check(draw, "JPEG", quality=70)


def test_a_frame_around_the_digit_is_left_out(check: Check) -> None:
    def draw(digit: int) -> Image.Image:
        image = draw_digit(digit, (300, 300), height=0.5)
        ImageDraw.Draw(image).rectangle((3, 3, 296, 296), outline="black", width=2)
        return image

    check(draw)


def test_dust_around_the_digit_is_left_out(check: Check) -> None:
    def draw(digit: int) -> Image.Image:
        image = draw_digit(digit, (300, 300), height=0.5)
        for x, y in np.random.default_rng(digit).integers(0, 296, (8, 2)).tolist():
            ImageDraw.Draw(image).ellipse((x, y, x + 2, y + 2), fill="black")
        return image

    check(draw)
