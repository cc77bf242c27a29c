"""The paper of a picture: what would remain without the ink.

Usually it is a smooth surface that is fitted to the picture's margin and to all pixels that agree
with it, so that it includes uneven light and dark corners. Otherwise the paper may be a plain area
inside the picture, or have a pattern of lines.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from app.images.grids import (
    Flags,
    Floats,
    box,
    count_cells,
    from_cells,
    label,
    length,
    luma,
    margin,
    runs,
)

_FIT = 64  # the paper is fitted to at most this many samples a side
_GRID = 84  # areas are found on a grid of at most this many cells a side
_FEW = 32  # a first check of a picture samples at least this many pixels a side
_PATCHES = 42  # an uneven paper is searched on this many pixels a side
_PATCH = 5  # ... in patches of this many, a little wider than a stroke
# A smaller difference from such a paper, of 1, is an error of the fit at the edges.
LEAST_CONTRAST = 0.15
_SHADES = 64  # levels of grey at which light and dark may be divided

# A paper inside a picture has at least this share of the picture ...
SMALLEST_AREA = 0.12
# ... and at least this share of what it spans, unlike a stroke or a ring, ...
PLAINEST = 0.6

# ... and it goes to an edge if it ends no further from it than this share of the picture.
NEAR_EDGE = 0.04

# A frame's lightness varies by less than this, of 1 ...
EVEN = 0.1
# ... its inner edge is soft over this share of the picture ...
SOFT = 0.01
# ... and each side of what it surrounds differs from it along at least this share.
RECTANGLE = 0.6
SMALLEST_INSIDE = 5  # pixels a side

# The pattern of a paper is read from this share of the picture's height and width at its edges.
PATTERN_MARGIN = 0.1
# A pattern with more edges than this on one side has lines.
MOST_EDGES = 2
# The outermost pixels differ from their pattern by no more than this, of 1, on average.
MOST_UNLIKE = 0.2


@dataclass(frozen=True)
class Paper:
    """What a picture would be without its ink."""

    colour: Floats  # (height, width, channels) in 0..1
    sheet: Flags | None = None  # (height, width): where the paper is; None for everywhere


@dataclass(frozen=True)
class Area:
    """A part of a picture that has its own paper."""

    inside: Floats  # (height, width, channels) in 0..1: the pixels of the part
    paper: Paper
    across: bool  # it goes from one edge of the picture to the opposite one


def around(pixels: Floats) -> Paper:
    """Return the paper that extends to the edges of `pixels`, (height, width, channels) in 0..1."""
    edge = margin(pixels)
    middle: Floats = np.median(edge, axis=0).astype(np.float32)
    if np.all(np.abs(edge - middle) < 0.004):
        return Paper(np.broadcast_to(middle, pixels.shape))
    terms = _terms(pixels.shape[0], pixels.shape[1])
    surface = _fit(margin(terms), edge, share=0.7)
    # The margin gave a rough surface. Now it is fitted to all pixels that agree with it.
    return Paper(_refine(surface, terms, pixels, None))


def area(pixels: Floats, *, light: bool) -> Area | None:
    """Return what the largest light (or dark) area of `pixels` spans, with this area as its paper.

    Otsu's threshold ("A threshold selection method from gray-level histograms", 1979) divides light
    from dark. Return None if no such area is large enough.
    """
    grey = luma(pixels)
    threshold = _otsu(grey)
    belongs = grey > threshold if light else grey <= threshold
    counts, step = count_cells(belongs, _GRID)
    areas = label(counts > step * step / 2)
    sizes = np.bincount(areas.ravel())
    sizes[0] = 0
    largest = areas == sizes.argmax()
    spanned = _between(largest) & _between(largest.T).T
    if sizes.max() < max(SMALLEST_AREA * areas.size, PLAINEST * np.count_nonzero(spanned)):
        return None
    reached = box(spanned)
    across = any(
        side.start <= NEAR_EDGE * cells and side.stop >= (1 - NEAR_EDGE) * cells
        for side, cells in zip(reached, spanned.shape, strict=True)
    )
    inner = _without_rim(spanned)
    sheet = from_cells(inner if inner.any() else spanned, step, grey.shape)
    where = box(sheet)
    inside = pixels[where]
    plain = (from_cells(largest, step, grey.shape) & belongs)[where]
    terms = _terms(inside.shape[0], inside.shape[1])
    surface = np.zeros((6, inside.shape[2]), np.float32)
    surface[0] = np.median(inside[plain], axis=0)
    return Area(inside, Paper(_refine(surface, terms, inside, plain), sheet[where]), across)


def inside_frame(pixels: Floats) -> Floats | None:
    """Return what an even frame or margin of `pixels` surrounds, or None if there is no such frame.

    The frame is at all four edges, and what it surrounds is a rectangle of another lightness. A
    plain rectangle is the content itself, since nothing is inside it.
    """
    height, width = pixels.shape[:2]
    level = float(np.median(luma(margin(pixels))))
    few = np.abs(luma(pixels[:: max(1, height // _FEW), :: max(1, width // _FEW)]) - level) > EVEN
    if not _is_rectangle(few[box(few)]):  # this first check excludes nearly all pictures
        return None
    grey = luma(pixels)
    differs = np.abs(grey - level) > EVEN
    rows, columns = box(differs)
    if min(rows.start, height - rows.stop, columns.start, width - columns.stop) < 1:
        return None
    soft = round(SOFT * min(height, width))  # the frame's blurred inner edge
    rows = slice(rows.start + soft, rows.stop - soft)
    columns = slice(columns.start + soft, columns.stop - soft)
    surrounded = differs[rows, columns]
    if min(surrounded.shape) < SMALLEST_INSIDE:
        return None
    inside = grey[rows, columns]
    if float(np.ptp(inside)) < EVEN:
        return None
    corners = np.sort((inside[0, 0], inside[0, -1], inside[-1, 0], inside[-1, -1]))
    # Three corners of one lightness are the ground of what is inside.
    alike = min(corners[2] - corners[0], corners[3] - corners[1]) < EVEN
    return pixels[rows, columns] if alike and _is_rectangle(surrounded) else None


def _is_rectangle(flags: Flags) -> bool:
    """Return whether most of each side of `flags` is set."""
    if not flags.size:
        return False
    sides = flags[0], flags[-1], flags[:, 0], flags[:, -1]
    return all(float(side.mean()) > RECTANGLE for side in sides)


def pattern(pixels: Floats) -> Paper | None:
    """Return a paper of rows and columns (lines, squares, stripes), as the edges show them.

    Return None if the edges show something else.
    """
    height, width, _ = pixels.shape
    down, across = (max(1, round(PATTERN_MARGIN * side)) for side in (height, width))
    columns = np.median(np.concatenate((pixels[:down], pixels[-down:])), axis=0)
    rows = np.median(np.concatenate((pixels[:, :across], pixels[:, -across:]), axis=1), axis=1)
    middle = np.median(np.concatenate((columns, rows)), axis=0)
    columns, rows = (columns - middle)[None], (rows - middle)[:, None]
    further = length(columns) >= length(rows)
    colour = (middle + np.where(further[..., None], columns, rows)).astype(np.float32)
    if float(np.mean(length(margin(pixels) - margin(colour)))) > MOST_UNLIKE:
        return None
    return Paper(colour)


def is_all(pixels: Floats) -> bool:
    """Return whether `pixels` (height, width, channels) are one smooth surface without ink."""
    step = max(1, -(-max(pixels.shape[:2]) // _FIT))
    few = pixels[::step, ::step]
    values, terms = few.reshape(-1, few.shape[2]), _terms(*few.shape[:2]).reshape(-1, 6)
    off = length(values - terms @ _solve(terms, values))
    return float(np.sqrt(np.mean(off**2))) < EVEN / 2


def has_lines(paper: Paper) -> bool:
    """Return whether a `pattern` has several lines, and not just one or two edges."""
    grey = luma(paper.colour)
    differs = np.abs(grey - float(np.median(grey))) > EVEN
    return max(runs(differs.all(1)), runs(differs.all(0))) > MOST_EDGES


def local(pixels: Floats, *, dark: bool) -> Paper | None:
    """Return a paper as uneven as possible: `pixels` without what is narrower than a patch.

    `dark` or light content is removed: the closing, or the opening, of the grey picture (Serra,
    "Image Analysis and Mathematical Morphology", 1982), made smooth. Return None if nothing stands
    out from the paper, or if there are fewer pixels than patches.
    """
    height, width, channels = pixels.shape
    if min(height, width) < _PATCHES:
        return None
    grey = luma(pixels)
    few = Image.fromarray(np.ascontiguousarray(grey))
    few.thumbnail((_PATCHES, _PATCHES), Image.Resampling.BOX)
    # The first filter removes what is narrower than a patch, the second restores the size of the
    # rest.
    less, more = ImageFilter.MinFilter(_PATCH), ImageFilter.MaxFilter(_PATCH)
    few = few.filter(more).filter(less) if dark else few.filter(less).filter(more)
    smooth = _smoothed(np.asarray(few), _PATCH // 2)
    large = Image.fromarray(smooth).resize((width, height), Image.Resampling.BICUBIC)
    level = np.clip(np.asarray(large, np.float32), 0, 1)
    if float(np.abs(grey - level).max()) < LEAST_CONTRAST:
        return None
    return Paper(np.repeat(level[..., None], channels, axis=2))


def _between(cells: Flags) -> Flags:
    """Return the cells of each row from the first set cell to the last."""
    after = np.maximum.accumulate(cells, axis=1)
    before = np.maximum.accumulate(cells[:, ::-1], axis=1)[:, ::-1]
    between: Flags = after & before
    return between


def _smoothed(grey: Floats, reach: int) -> Floats:
    """Return the mean of the neighbours up to `reach` rows and columns away. Edges are repeated."""
    for axis in (0, 1):
        width = [(0, 0), (0, 0)]
        width[axis] = (reach + 1, reach)
        sums = np.pad(grey, width, mode="edge").astype(np.float64).cumsum(axis)
        side = 2 * reach + 1
        first, last = np.arange(side, sums.shape[axis]), np.arange(sums.shape[axis] - side)
        grey = ((sums.take(first, axis) - sums.take(last, axis)) / side).astype(np.float32)
    return grey


def _without_rim(cells: Flags) -> Flags:
    """Return `cells` without those next to an unset cell. The picture's edges do not count."""
    around = np.pad(cells, 1, constant_values=True)
    rows = around[:-2] & around[1:-1] & around[2:]
    inner: Flags = rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]
    return inner


def _otsu(grey: Floats) -> float:
    """Return the level that divides light from dark with the largest variance between the two.

    It is found among 64 shades.
    """
    counts = np.bincount((grey.ravel() * (_SHADES - 1)).astype(np.intp), minlength=_SHADES)
    share = counts.cumsum() / grey.size
    sums = (counts * np.arange(_SHADES)).cumsum() / grey.size
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (sums[-1] * share - sums) ** 2 / (share * (1 - share))
    between = np.nan_to_num(between, nan=0, posinf=0)
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return float((best.mean() + 1) / (_SHADES - 1))


def _terms(height: int, width: int) -> Floats:
    """Return the terms of a quadratic surface: (height, width, 6)."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return np.stack((x**0, x, y, x * x, x * y, y * y), axis=-1).astype(np.float32)


def _refine(surface: Floats, terms: Floats, pixels: Floats, only: Flags | None) -> Floats:
    """Return the paper of `pixels`, fitted to all pixels that agree with the rough `surface`.

    Only pixels where `only` is set are used.
    """
    height, width, channels = pixels.shape
    step = max(1, -(-max(height, width) // _FIT))
    sample = pixels[::step, ::step].reshape(-1, channels)
    few = terms[::step, ::step].reshape(-1, 6)
    if only is not None:
        asked = only[::step, ::step].ravel()
        sample, few = sample[asked], few[asked]
    for _ in range(3):
        off = length(sample - few @ surface)
        agrees = off < max(0.03, 2.5 * float(np.median(off))) if off.size else np.zeros(0, bool)
        if agrees.sum() < 12:
            break
        surface = _solve(few[agrees], sample[agrees])
    paper: Floats = (terms.reshape(-1, 6) @ surface).reshape(pixels.shape)
    return np.clip(paper, 0, 1)


def _fit(terms: Floats, values: Floats, share: float) -> Floats:
    """Return the coefficients that fit the best `share` of `values`.

    The rest may be a stroke at the edge.
    """
    middle: Floats = np.median(values, axis=0).astype(np.float32)
    close = length(values - middle)
    surface = np.zeros((terms.shape[1], values.shape[1]), np.float32)
    for _ in range(4):
        agrees = close <= np.quantile(close, share)
        surface = _solve(terms[agrees], values[agrees])
        close = length(values - terms @ surface)
    return surface


def _solve(terms: Floats, values: Floats) -> Floats:
    """Return the least-squares coefficients with which `terms` approximate `values`.

    The normal equations are 6x6, whatever the number of samples.
    """
    exact = terms.astype(np.float64)
    products, sums = exact.T @ exact, exact.T @ values
    return np.linalg.lstsq(products, sums, rcond=None)[0].astype(np.float32)
