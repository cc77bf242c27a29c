"""Shared parts of the photographs: sky, ground, shadow and camera noise."""

from PIL import Image

from scripts.samples.painting import Colour, Part, ellipse, paint, rectangle, stroke

SIZE = 128
GRAIN = 2.5

WHITE, BLACK = (240, 240, 238), (24, 24, 28)


def draw_photo(parts: tuple[Part, ...]) -> Image.Image:
    """Return the sample for one class, as "RGB"."""
    return paint(SIZE, WHITE, parts, grain=GRAIN)


def sky(horizon: float, upper: Colour, lower: Colour) -> Part:
    """Return a faintly cloudy sky from the top of the picture to `horizon`."""
    return Part(rectangle(0, 0, 1, horizon), upper, lower, mottle=0.05, patch=(0.3, 0.12))


def ground(horizon: float, upper: Colour, lower: Colour, mottle: float, across: float) -> Part:
    """Return the ground from `horizon` to the bottom, with flat patches that are `across` wide."""
    patch = across, across / 3
    return Part(rectangle(0, horizon, 1, 1), upper, lower, mottle=mottle, patch=patch)


def shadow(left: float, right: float, y: float, height: float = 0.03) -> Part:
    """Return a shadow on the ground."""
    middle, half = (left + right) / 2, (right - left) / 2
    return Part(ellipse(middle, y, half, height), (12, 12, 14), soft=0.012, opacity=0.7)


def line(*points: tuple[float, float], colour: Colour = BLACK, width: float = 0.008) -> Part:
    """Return a line for a gap between panels or a crease."""
    return Part(stroke(*points), colour, line=width, opacity=0.6)
