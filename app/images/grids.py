"""Functions on arrays of pixels that the search for ink and the search for paper share."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Number = TypeVar("Number", bound=np.generic)

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def luma(pixels: Floats) -> Floats:
    """Return the lightness of (..., channels) in 0..1, with television's weights (ITU-R BT.601)."""
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels @ LUMA


def margin(pixels: NDArray[Number]) -> NDArray[Number]:
    """Return the outermost pixels of (height, width, ...) as (n, ...)."""
    return np.concatenate((pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]))


def box(flags: Flags) -> tuple[slice, slice]:
    """Return the rows and columns that hold all set `flags`; empty slices if none is set."""
    rows, columns = np.flatnonzero(flags.any(1)), np.flatnonzero(flags.any(0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def runs(flags: Flags) -> int:
    """Return the number of groups of set neighbours in the row `flags`."""
    return int(flags[0]) + int(np.count_nonzero(flags[1:] & ~flags[:-1]))


def length(vectors: Floats) -> Floats:
    """Return the Euclidean length along the last axis, scaled so that black to white is 1."""
    if vectors.shape[-1] == 1:
        return np.abs(vectors[..., 0])
    squares: Floats = np.einsum("...c,...c->...", vectors, vectors)
    lengths: Floats = np.sqrt(squares / np.float32(vectors.shape[-1]))
    return lengths


def count_cells(flags: Flags, most: int) -> tuple[NDArray[np.int64], int]:
    """Return the number of set `flags` (height, width) in each cell of a grid, and a cell's side.

    The grid has at most `most` cells a side.
    """
    height, width = flags.shape
    step = max(1, -(-max(height, width) // most))
    rows, columns = -(-height // step), -(-width // step)
    cells = np.zeros((rows * step, columns * step), bool)
    cells[:height, :width] = flags
    counts = cells.reshape(rows, step, -1).sum(1, dtype=np.int64)
    # One slice after the other: a sum along so short an axis takes several times as long.
    return np.add.reduce([counts[:, start::step] for start in range(step)]), step


def from_cells(cells: Flags, step: int, shape: tuple[int, ...]) -> Flags:
    """Return the grid `cells` in pixels: (height, width) as in `shape`."""
    whole: Flags = cells.repeat(step, 0).repeat(step, 1)[: shape[0], : shape[1]]
    return whole


def label(cells: Flags) -> NDArray[np.int32]:
    """Return the connected groups of set `cells` (eight neighbours), numbered from 1.

    Cells that are not set are 0.
    """
    padded = np.zeros((cells.shape[0] + 2, cells.shape[1] + 2), np.int32)
    marks = padded[1:-1, 1:-1]
    marks[cells] = np.arange(1, np.count_nonzero(cells) + 1)
    while True:
        around = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
        around = np.maximum(np.maximum(around[:, :-2], around[:, 1:-1]), around[:, 2:])
        own, largest = marks[cells], around[cells]
        if np.array_equal(own, largest):
            numbers = np.unique(own)
            marks[cells] = np.searchsorted(numbers, own) + 1
            return marks
        # Each group takes the largest number that it touches, and follows that number's own
        # replacement.
        leads_to = np.arange(padded.max() + 1, dtype=np.int32)
        np.maximum.at(leads_to, own, largest)
        marks[cells] = _ends_of(leads_to)[own]


def _ends_of(leads_to: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the final number that each number leads to, over any number of steps."""
    while not np.array_equal(further := leads_to[leads_to], leads_to):
        leads_to = further
    return leads_to
