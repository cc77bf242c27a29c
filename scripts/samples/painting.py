"""Pictures painted from tables: `Part`s, one over the other, with light, shadow and texture.

Coordinates and lengths are shares of the picture's side; y runs down. Deterministic.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFilter

Points = NDArray[np.float64]  # (n, 2)
Colour = tuple[int, int, int]

FINE = 4  # pictures are painted this many times larger, then reduced


@dataclass(frozen=True)
class Part:
    """A filled outline or, if `line` is above 0, a line of that width."""

    outline: Points
    colour: Colour
    lower: Colour | None = None  # the colour at the lower end, for a vertical gradient
    line: float = 0
    rim: float = 0  # how much darker the part is near its outline, so that it looks round
    soft: float = 0  # radius of a blur, for folds, shadows and foam
    opacity: float = 1
    mottle: float = 0  # contrast of its patches, for grass, waves and fur
    patch: tuple[float, float] = (0.03, 0.03)  # width and height of a patch
    inside: bool = False  # paint only within the last part that is not `inside`


def paint(size: int, paper: Colour, parts: Sequence[Part], grain: float = 0) -> Image.Image:
    """Return the `parts` on `paper`, size x size. `grain` is camera noise in grey levels."""
    random = np.random.default_rng(0)
    side = size * FINE
    picture = Image.new("RGB", (side, side), paper)
    base = Image.new("L", (side, side), 255)
    for part in parts:
        mask = _mask(part, side)
        if part.inside:
            mask = Image.fromarray(np.minimum(mask, base))
        else:
            base = mask
        colours = _gradient(part, side)
        if part.rim:
            blurred = mask.filter(ImageFilter.GaussianBlur(0.05 * side))
            colours *= 1 - part.rim * (1 - np.asarray(blurred) / 255)[..., None]
        if part.mottle:
            colours *= 1 + part.mottle * _patches(random, part.patch, side)[..., None]
        if part.opacity < 1:
            mask = mask.point(lambda value, share=part.opacity: round(value * share))
        picture.paste(Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8)), mask=mask)
    picture = picture.reduce(FINE)
    if not grain:
        return picture
    noisy = np.asarray(picture) + random.normal(0, grain, (size, size, 1))
    return Image.fromarray(np.clip(noisy.round(), 0, 255).astype(np.uint8))


def curve(*points: tuple[float, float], closed: bool = True) -> Points:
    """Return a Catmull-Rom curve through `points`. A repeated point is a corner."""
    ends = (points[-1], points[:2]) if closed else (points[0], points[-1:])
    p = np.asarray((ends[0], *points, *ends[1]))
    t = (np.arange(12) / 12)[:, None]
    pieces = [
        0.5
        * (
            2 * b
            + (c - a) * t
            + (2 * a - 5 * b + 4 * c - d) * t**2
            + (3 * b - a - 3 * c + d) * t**3
        )
        for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False)
        if not np.array_equal(b, c)
    ]
    return np.concatenate(pieces if closed else (*pieces, p[-1:]))


def stroke(*points: tuple[float, float]) -> Points:
    """Return an open curve through `points`."""
    return curve(*points, closed=False)


def polygon(*points: tuple[float, float]) -> Points:
    """Return straight edges between `points`."""
    return np.asarray(points)


def rectangle(left: float, top: float, right: float, bottom: float) -> Points:
    """Return an upright rectangle, given by its edges."""
    return polygon((left, top), (right, top), (right, bottom), (left, bottom))


def ellipse(x: float, y: float, across: float, down: float | None = None) -> Points:
    """Return an ellipse around (x, y) with the radii `across` and `down`."""
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return np.stack((x + across * np.cos(turn), y + (down or across) * np.sin(turn)), axis=1)


def mirrored(half: ArrayLike) -> Points:
    """Return a symmetric outline from its right half, from top to bottom; x is from the middle."""
    right = np.asarray(half)
    left = right[::-1] * (-1, 1)
    return moved(np.concatenate((right, left)), 0.5, 0)


def moved(outline: Points, right: float, down: float) -> Points:
    """Return the same outline at another place."""
    return outline + np.asarray((right, down))


def _mask(part: Part, side: int) -> Image.Image:
    """Return a mask that is 255 within `part`."""
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    path = [(x, y) for x, y in part.outline * side]
    if part.line:
        width = max(1, round(part.line * side))
        draw.line(path, fill=255, width=width, joint="curve")
    else:
        draw.polygon(path, fill=255)
    return mask.filter(ImageFilter.GaussianBlur(part.soft * side)) if part.soft else mask


def _gradient(part: Part, side: int) -> NDArray[np.float64]:
    """Return a vertical gradient (side, side, 3) from `colour` to `lower`."""
    top, bottom = part.outline[:, 1].min(), part.outline[:, 1].max()
    rows = (np.arange(side) / side - top) / max(bottom - top, 1e-9)
    upper, lower = np.asarray(part.colour, float), np.asarray(part.lower or part.colour, float)
    colours = upper + np.clip(rows, 0, 1)[:, None] * (lower - upper)
    return np.repeat(colours[:, None], side, axis=1)


def _patches(
    random: np.random.Generator, patch: tuple[float, float], side: int
) -> NDArray[np.float64]:
    """Return smooth noise (side, side) in -1..1 with patches of the size `patch`."""
    across, down = (max(2, round(1 / length)) for length in patch)
    coarse = random.uniform(-1, 1, (down, across)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC), float)
