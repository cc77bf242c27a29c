"""Handwritten digits in dark ink on white paper, drawn from tables of strokes."""

import numpy as np
from PIL import Image, ImageDraw

from scripts.samples.painting import stroke

Stroke = tuple[tuple[float, float], ...]
Colour = str | tuple[int, ...]

# The strokes of each digit. A stroke is a smooth curve through points (x, y), with y from 0 at the
# top to 1. A repeated point is a corner.
DIGITS: tuple[tuple[Stroke, ...], ...] = (
    ((
        (0.56, 0.02), (0.34, 0.09), (0.16, 0.34), (0.14, 0.66), (0.28, 0.92), (0.48, 0.97),
        (0.70, 0.84), (0.82, 0.56), (0.80, 0.26), (0.68, 0.07), (0.52, 0.03),
    ),),
    (((0.58, 0.02), (0.54, 0.34), (0.48, 0.66), (0.43, 0.98)),),
    ((
        (0.17, 0.24), (0.28, 0.07), (0.52, 0.02), (0.72, 0.13), (0.72, 0.34), (0.55, 0.58),
        (0.32, 0.80), (0.13, 0.95), (0.13, 0.95), (0.40, 0.91), (0.64, 0.95), (0.86, 0.93),
    ),),
    ((
        (0.18, 0.13), (0.38, 0.03), (0.62, 0.05), (0.73, 0.19), (0.62, 0.37), (0.38, 0.46),
        (0.38, 0.46), (0.64, 0.50), (0.79, 0.66), (0.72, 0.87), (0.48, 0.97), (0.24, 0.94),
        (0.12, 0.84),
    ),),
    (
        ((0.30, 0.04), (0.24, 0.24), (0.14, 0.52), (0.14, 0.52), (0.46, 0.53), (0.86, 0.48)),
        ((0.70, 0.10), (0.66, 0.40), (0.61, 0.70), (0.58, 0.98)),
    ),
    (
        (
            (0.32, 0.06), (0.28, 0.25), (0.24, 0.45), (0.24, 0.45), (0.46, 0.38), (0.68, 0.46),
            (0.77, 0.66), (0.67, 0.87), (0.44, 0.97), (0.22, 0.94), (0.12, 0.86),
        ),
        ((0.32, 0.06), (0.54, 0.06), (0.80, 0.03)),
    ),
    ((
        (0.66, 0.02), (0.44, 0.14), (0.26, 0.38), (0.19, 0.66), (0.26, 0.89), (0.47, 0.98),
        (0.68, 0.90), (0.75, 0.72), (0.64, 0.57), (0.45, 0.55), (0.28, 0.66), (0.21, 0.80),
    ),),
    ((
        (0.14, 0.09), (0.36, 0.09), (0.60, 0.07), (0.84, 0.05), (0.84, 0.05), (0.68, 0.30),
        (0.54, 0.60), (0.42, 0.98),
    ),),
    ((
        (0.72, 0.14), (0.52, 0.02), (0.32, 0.09), (0.28, 0.27), (0.46, 0.45), (0.66, 0.60),
        (0.74, 0.80), (0.60, 0.96), (0.38, 0.96), (0.24, 0.82), (0.32, 0.62), (0.52, 0.45),
        (0.70, 0.30), (0.72, 0.14),
    ),),
    ((
        (0.74, 0.16), (0.56, 0.03), (0.34, 0.09), (0.24, 0.27), (0.32, 0.45), (0.50, 0.48),
        (0.68, 0.36), (0.75, 0.16), (0.75, 0.16), (0.73, 0.42), (0.66, 0.70), (0.56, 0.98),
    ),),
)  # fmt: skip
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def digit_mask(
    digit: int,
    size: tuple[int, int] = (140, 140),
    *,
    pen: float = 0.09,
    height: float = 0.7,
    centre: tuple[float, float] = (0.5, 0.5),
) -> Image.Image:
    """Return the ink of a digit as an "L" picture of `size` (width, height): 255 under the pen.

    `height` is the digit's as a share of the picture's, `pen` the line's width as a share of the
    digit's height, `centre` where its middle stands as shares of the picture's width and height.
    """
    fine = 4 if max(size) <= 512 else 1
    width, tall = size[0] * fine, size[1] * fine
    scale = height * tall
    image = Image.new("L", (width, tall))
    draw = ImageDraw.Draw(image)
    radius = max(pen * scale / 2, 0.5)
    for points in DIGITS[digit]:
        path = (stroke(*points) - 0.5) * scale + np.multiply(centre, (width, tall))
        draw.line([(x, y) for x, y in path], fill=255, width=max(1, round(2 * radius)))
        for x, y in path:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return image.reduce(fine) if fine > 1 else image


def draw_digit(
    digit: int,
    size: tuple[int, int] = (140, 140),
    *,
    ink: Colour = "black",
    paper: Colour | None = "white",
    **shape: float | tuple[float, float],
) -> Image.Image:
    """Return a digit in `ink` on `paper` as "RGB", or without paper as transparent "RGBA".

    `shape` is digit_mask's `pen`, `height` and `centre`.
    """
    mask = digit_mask(digit, size, **shape)
    if paper is None:
        image = Image.new("RGB", size, ink)
        image.putalpha(mask)
        return image
    image = Image.new("RGB", size, paper)
    image.paste(Image.new("RGB", size, ink), mask=mask)
    return image


def draw_mnist_sample(digit: int) -> Image.Image:
    """Return the sample for one digit: 140x140, grey, drawn with an ordinary pen."""
    return draw_digit(digit, ink=(30, 30, 30)).convert("L")
