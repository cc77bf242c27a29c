"""Finding the ink in a picture: what stands on the paper, and how strongly, whatever the colours.

The paper is a smooth surface fitted to the picture's margin and to whatever agrees with it, so
that lamps and vignettes are paper too. The ink is how far a pixel lies from that surface in the
direction of the strongest difference: dark or light, or of another hue at the same lightness.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from app.errors import RequestError

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Number = TypeVar("Number", bound=np.generic)

LUMA = np.array([0.299, 0.587, 0.114], np.float32)

# Less difference than this between ink and paper, of 1, is no picture of anything.
FAINTEST = 0.04
# ... nor is less than this many standard deviations of the paper's own noise.
NOISE_MARGIN = 7.0

# Ink above this makes a mark; where there is none, nothing is shown.
MARKED = 0.35

# Marks with less than this share of the largest mark's ink are dust.
DUST = 0.06
# A mark around or over the edge is a frame or a shadow if one inside has this share of its ink.
INSIDE = 0.15

_FIT = 64  # the paper is fitted to at most so many samples a side
_GRID = 84  # marks are told apart on a grid of at most so many cells a side


@dataclass(frozen=True)
class Ink:
    """What stands on the paper of a picture."""

    strength: Floats  # (height, width): 0 on the paper, 1 for full ink
    dark: bool  # darker than the paper
    cleaned: bool  # dust, a frame or a shadow was left out
    paper: Floats  # (height, width), the luma of the paper behind each pixel


def find_ink(pixels: Floats, *, tidy: bool) -> Ink:
    """The ink in `pixels`, (height, width, channels) in 0..1 with one channel or three.

    `tidy` leaves out marks that are dust, a frame or a shadow at the edge.

    Raises RequestError 422 `no_content` where nothing stands out from the paper.
    """
    paper = _fit_paper(pixels)
    difference = pixels - paper
    distance = _length(difference)
    if _noise(distance) > 0.01:  # a photograph's grain; clean drawings stay sharp
        difference = _smooth(difference)
        distance = _length(difference)
    strong = distance >= 0.6 * distance.max()
    if not strong.any():  # not a number, from a file of such
        raise _blank()
    tone = difference[strong].mean(0)  # of the ink, as seen from the paper
    level = float(distance[strong].mean())
    if level < FAINTEST:
        raise _blank()
    if np.linalg.norm(tone) > 0.8 * level:
        strength = difference @ (tone / (tone @ tone))
    else:  # inks of several colours
        strength = distance / level
    noise = _noise(np.abs(strength))
    if noise * NOISE_MARGIN > 1:
        raise _blank()
    floor = 3 * noise
    strength = np.clip((strength - floor) / (1 - floor), 0, 1).astype(np.float32)
    marked = strength > MARKED
    if not marked.any():  # noise, whose ink is everywhere and nowhere
        raise _blank()
    keep = _marks_that_matter(marked) if tidy else None
    if keep is not None:
        strength *= keep
    return Ink(strength, float(luma(tone)) < 0, keep is not None, luma(paper))


def luma(pixels: Floats) -> Floats:
    """The lightness of (..., channels) in 0..1, as television has it (ITU-R BT.601)."""
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels @ LUMA


def margin(pixels: NDArray[Number]) -> NDArray[Number]:
    """The outermost pixels of (height, width, ...), as (n, ...)."""
    return np.concatenate((pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]))


def box(flags: Flags) -> tuple[slice, slice]:
    """The rows and columns that hold all set `flags`, of which there is at least one."""
    rows, columns = np.flatnonzero(flags.any(1)), np.flatnonzero(flags.any(0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _noise(distance: Floats) -> float:
    """The standard deviation of the paper, from how far each pixel (height, width) is from it.

    Only what is nearer to the paper than to the ink is asked: an object may fill the picture.
    """
    few = distance[::2, ::2]
    near = few[few <= 0.5 * few.max()]
    return 1.4826 * float(np.median(near)) if near.size else np.inf


def _blank() -> RequestError:
    return RequestError(
        422, "no_content", "Nothing stands out in the picture: it is blank or nearly so."
    )


def _fit_paper(pixels: Floats) -> Floats:
    """The paper behind `pixels`, a quadratic surface for each channel, in the same shape."""
    height, width, channels = pixels.shape
    edge = margin(pixels)
    middle: Floats = np.median(edge, axis=0).astype(np.float32)
    if np.all(np.abs(edge - middle) < 0.004):
        return np.broadcast_to(middle, pixels.shape)
    step = max(1, -(-max(height, width) // _FIT))
    sample = pixels[::step, ::step].reshape(-1, channels)
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack((x**0, x, y, x * x, x * y, y * y), axis=-1).astype(np.float32)
    few = terms[::step, ::step].reshape(-1, 6)
    surface = _fit(margin(terms), edge, share=0.7)
    # The margin has told roughly; now everything that agrees with it takes part.
    for _ in range(3):
        off = _length(sample - few @ surface)
        agrees = off < max(0.03, 2.5 * float(np.median(off)))
        if agrees.sum() < 12:
            break
        surface = _solve(few[agrees], sample[agrees])
    paper: Floats = (terms.reshape(-1, 6) @ surface).reshape(pixels.shape)
    return np.clip(paper, 0, 1)


def _fit(terms: Floats, values: Floats, share: float) -> Floats:
    """Coefficients that fit the best `share` of `values`: a stroke over the edge is no paper."""
    middle: Floats = np.median(values, axis=0).astype(np.float32)
    close = _length(values - middle)
    surface = np.zeros((terms.shape[1], values.shape[1]), np.float32)
    for _ in range(4):
        agrees = close <= np.quantile(close, share)
        surface = _solve(terms[agrees], values[agrees])
        close = _length(values - terms @ surface)
    return surface


def _solve(terms: Floats, values: Floats) -> Floats:
    """Least squares: the coefficients with which `terms` come closest to `values`."""
    return np.linalg.lstsq(terms, values, rcond=None)[0].astype(np.float32)


def _length(vectors: Floats) -> Floats:
    """The Euclidean length along the last axis, scaled so that black to white is 1."""
    if vectors.shape[-1] == 1:
        return np.abs(vectors[..., 0])
    squares: Floats = np.einsum("...c,...c->...", vectors, vectors)
    length: Floats = np.sqrt(squares / np.float32(vectors.shape[-1]))
    return length


def _smooth(pixels: Floats) -> Floats:
    """The mean of 3x3 neighbours; edges are repeated."""
    padded = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    smooth: Floats = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / np.float32(9)
    return smooth


def _marks_that_matter(flags: Flags) -> Flags | None:
    """Where the marks are that count, in the shape of `flags`; None where all of them do."""
    height, width = flags.shape
    step = max(1, -(-max(height, width) // _GRID))
    rows, columns = -(-height // step), -(-width // step)
    cells = np.zeros((rows * step, columns * step), bool)
    cells[:height, :width] = flags
    counts = cells.reshape(rows, step, columns, step).sum((1, 3))
    marks = _label(counts > 0)
    weight = np.bincount(marks.ravel(), counts.ravel())
    weight[0] = 0
    outer = _spans(marks, len(weight), 0.9)
    outer[margin(marks)] = True
    inside = weight * ~outer
    if inside.max() >= INSIDE * weight.max():
        weight = inside
    keep = weight >= DUST * weight.max()
    keep[0] = False
    if keep[1:].all():
        return None
    near = np.pad(keep[marks], 1)
    near = near[:-2] | near[1:-1] | near[2:]
    near = near[:, :-2] | near[:, 1:-1] | near[:, 2:]
    whole: Flags = near.repeat(step, 0).repeat(step, 1)[:height, :width]
    return whole


def _spans(marks: NDArray[np.int32], count: int, share: float) -> Flags:
    """Which of the `count` marks reach over more than `share` of both the height and width."""
    spans = np.ones(count, bool)
    places = np.nonzero(marks)
    for place, side in zip(places, marks.shape, strict=True):
        first, last = np.full(count, side), np.zeros(count, np.int64)
        np.minimum.at(first, marks[places], place)
        np.maximum.at(last, marks[places], place)
        spans &= last - first + 1 > share * side
    return spans


def _label(cells: Flags) -> NDArray[np.int32]:
    """Number the connected groups of set `cells` (eight neighbours) from 1; the others are 0."""
    padded = np.zeros((cells.shape[0] + 2, cells.shape[1] + 2), np.int32)
    label = padded[1:-1, 1:-1]
    label[cells] = np.arange(1, np.count_nonzero(cells) + 1)
    leads_to = np.zeros(label.max() + 1, np.int32)
    first = label[cells]
    while True:
        around = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
        around = np.maximum(np.maximum(around[:, :-2], around[:, 1:-1]), around[:, 2:])
        # Each cell takes the largest number next to it, and follows where that one's cell went.
        before = label[cells]
        leads_to[first] = around[cells]
        after = leads_to[leads_to[around[cells]]]
        label[cells] = after
        if np.array_equal(before, after):
            numbers = np.unique(after)
            label[cells] = np.searchsorted(numbers, after) + 1
            return label
