"""Pictures that are equal, or nearly: the same one saved again, smaller, lighter or darker.

A picture's features are the means of 8x8 cells of its light, less their own mean, of length 1. Two
pictures can only be nearly equal where their features are close; then their pixels are compared.
Mirrored, turned and differently cropped pictures are others.
"""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

CELLS = 8
_NEAR = 0.12  # distance of two pictures' features; 0 is equal, 1.4 unrelated
_ALIKE = 0.2  # of their pixels, by the same measure
_LIGHT = 24.0  # of 255, by which the channels' means of nearly equal pictures may differ
_PLAIN = 2.0  # of 255: a picture of less contrast shows too little to be compared
_FINEST = 32  # pixels a side at which two pictures are compared
_ROWS = 256  # compared at once

Features = npt.NDArray[np.float32]  # (N, CELLS * CELLS + 1): the cells, and their deviation


def features(pixels: npt.NDArray[np.uint8]) -> Features:
    """Return the features (CELLS * CELLS + 1,) of a picture (height, width, channels)."""
    cells = _reduced(pixels.mean(axis=2, dtype=np.float32), CELLS).ravel()
    return np.append(_of_length_one(cells), cells.std()).astype(np.float32)


def nearly_equal(
    found: Features,
    picture: Callable[[int], npt.NDArray[np.uint8]],
    watch: Callable[[int], None] = lambda _: None,
) -> list[tuple[int, int]]:
    """Return all pairs of places in `found` whose pictures are nearly equal.

    `picture` gives the pixels (height, width, channels) at a place; `watch` is told how many
    places have been done. Exact: all are compared whose features could be close.
    """
    shown = np.flatnonzero(found[:, -1] >= _PLAIN)
    if len(shown) < 2:
        return []
    cells = found[shown, :-1]
    _, directions = np.linalg.eigh(np.cov(cells.T))
    # Where pictures are along the directions in which they differ most: close ones are in the same
    # bin of the first two, or in bins side by side, and not far apart along the third.
    along = cells @ directions[:, :-4:-1].astype(np.float32)
    bins = _bins(along)
    pairs = []
    for (x, y), rows in bins.items():
        for other in ((x, y), (x, y + 1), (x + 1, y - 1), (x + 1, y), (x + 1, y + 1)):
            for a, b in _close(cells, along[:, 2], rows, bins.get(other, rows[:0])):
                one, two = sorted((int(shown[a]), int(shown[b])))
                if (other != (x, y) or a < b) and _are_alike(picture(one), picture(two)):
                    pairs.append((one, two))
        watch(len(rows))
    return sorted(pairs)


def _bins(along: npt.NDArray[np.float32]) -> dict[tuple[int, int], npt.NDArray[np.int64]]:
    """Bin -> the places in it, in their order along the third direction."""
    numbers, where = np.unique(np.floor(along[:, :2] / _NEAR), axis=0, return_inverse=True)
    order = np.lexsort((along[:, 2], where.ravel()))
    ends = np.cumsum(np.bincount(where.ravel()))[:-1]
    return {
        (int(x), int(y)): rows for (x, y), rows in zip(numbers, np.split(order, ends), strict=True)
    }


def _close(
    cells: npt.NDArray[np.float32],
    along: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
    others: npt.NDArray[np.int64],
) -> Iterator[tuple[int, int]]:
    """Yield the pairs of one of `rows` and one of `others`, both in order, that are close."""
    least = 1 - _NEAR**2 / 2  # of the product of two features of that distance
    for start in range(0, len(rows), _ROWS):
        block = rows[start : start + _ROWS]
        ends = along[block[0]] - _NEAR, along[block[-1]] + _NEAR
        first, last = np.searchsorted(along[others], ends)
        near = others[first:last]
        for row, column in zip(*np.nonzero(cells[block] @ cells[near].T >= least), strict=True):
            yield int(block[row]), int(near[column])


def grouped(count: int, pairs: list[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """Return the group (count,) of each place: its smallest member, over chains of `pairs`."""
    leads_to = list(range(count))

    def first(place: int) -> int:
        while leads_to[place] != place:
            leads_to[place] = leads_to[leads_to[place]]
            place = leads_to[place]
        return place

    for a, b in pairs:
        low, high = sorted((first(a), first(b)))
        leads_to[high] = low
    return np.array([first(place) for place in range(count)], np.int64)


def _are_alike(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> bool:
    if np.abs(one.mean(axis=(0, 1)) - other.mean(axis=(0, 1))).max() > _LIGHT:
        return False
    a, b = (_of_length_one(_reduced(each.astype(np.float32), _FINEST)) for each in (one, other))
    return bool(np.linalg.norm(a - b) <= _ALIKE)


def _of_length_one(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """`values` (..., channels or none) less each channel's mean, divided by their length."""
    flat = values.reshape(-1, values.shape[-1] if values.ndim == 3 else 1)
    flat = flat - flat.mean(axis=0)
    scaled: npt.NDArray[np.float32] = (flat / max(float(np.linalg.norm(flat)), 1e-6)).ravel()
    return scaled


def _reduced(values: npt.NDArray[np.float32], most: int) -> npt.NDArray[np.float32]:
    """Return the means of `most` x `most` cells, or `values` where a side has no more pixels."""
    for axis in (0, 1):
        length = values.shape[axis]
        if length > most:
            edges = np.linspace(0, length, most + 1).astype(int)
            sums = np.add.reduceat(values, edges[:-1], axis=axis)
            counts = np.diff(edges).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
            values = (sums / counts).astype(np.float32)
    return values
