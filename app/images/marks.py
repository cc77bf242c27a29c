"""The marks of ink: which are dust or a frame, and which are digits side by side."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.images.grids import Flags, box, count_cells, from_cells, label, margin, runs

# Marks with less than this share of the largest mark's ink are dust.
DUST = 0.06
# A mark around or over the edge is a frame or a shadow if a mark inside has this share of its ink.
INSIDE = 0.15

# Each digit beside others has at least this share of the tallest one's height ...
ALIKE = 0.6
# ... and this share of the heaviest one's ink: a one has less than half of a zero's.
HEAVY = 0.12
# Marks above each other belong to one digit if they share this part of the narrower one's width.
STACKED = 0.35
# Marks nearer to each other than this share of their height do too: a stroke that is broken.
BROKEN = 0.09

# A digit reaches two opposite edges of its picture in at most this many places.
MOST_ENDS = 2
INNER = 4  # cells; more than the width of a line along the edge

# More marks than this are not digits but a pattern or the grain of a desk, and slow to join.
MOST_PARTS = 24

_GRID = 84  # marks are found on a grid of at most this many cells a side


@dataclass(frozen=True)
class Marks:
    """Connected groups of ink, numbered on a grid of cells."""

    cells: NDArray[np.int32]  # (rows, columns): the number of each cell's mark, 0 for none
    weight: NDArray[np.float64]  # pixels of ink of each number
    keep: Flags  # for each number: not dust, a frame or a shadow
    step: int  # the side of a cell in pixels
    shape: tuple[int, ...]  # of the picture: (height, width)

    @property
    def cleaned(self) -> bool:
        """Return whether any mark is to be left out."""
        return not self.keep[1:].all()

    @property
    def lined(self) -> bool:
        """Return whether marks reach two opposite edges in many places, like lined paper."""
        set_cells = self.cells > 0
        return _ends(set_cells) > MOST_ENDS or _ends(set_cells.T) > MOST_ENDS

    def kept(self) -> Flags:
        """Return the places (height, width) of the marks to keep, and one cell around them."""
        return self.around(self.keep)

    def around(self, chosen: Flags) -> Flags:
        """Return the places (height, width) of the `chosen` marks, and one cell around them."""
        near = np.pad(chosen[self.cells], 1)
        near = near[:-2] | near[1:-1] | near[2:]
        near = near[:, :-2] | near[:, 1:-1] | near[:, 2:]
        return from_cells(near, self.step, self.shape)


def find_marks(flags: Flags) -> Marks:
    """Return the marks in `flags` (height, width), of which at least one is set."""
    counts, step = count_cells(flags, _GRID)
    cells = label(counts > 0)
    weight = np.bincount(cells.ravel(), counts.ravel()).astype(np.float64)
    weight[0] = 0
    outer = _spans(cells, len(weight), 0.9)
    outer[margin(cells)] = True
    inside = weight * ~outer
    counted = inside if inside.max() >= INSIDE * weight.max() else weight
    keep = counted >= DUST * counted.max()
    keep[0] = False
    return Marks(cells, weight, keep, step, flags.shape)


def side_by_side(marks: Marks) -> list[Flags]:
    """Return the marks of each digit from left to right, as flags by number; empty for one digit.

    Parts of one digit are above each other (a five's bar) or close together (a broken stroke).
    Digits side by side have similar heights and are on about one line.
    """
    numbers = np.flatnonzero(marks.keep)
    if not 2 <= len(numbers) <= MOST_PARTS:
        return []
    groups = _join_parts(marks.cells, [[int(number)] for number in numbers])
    boxes = [_box_of(np.isin(marks.cells, group)) for group in groups]
    weights = np.array([marks.weight[group].sum() for group in groups])
    tallest = max(bottom - top for top, bottom, _, _ in boxes)
    digits = []
    for group, (top, bottom, left, _), weight in zip(groups, boxes, weights, strict=True):
        if bottom - top >= ALIKE * tallest and weight >= HEAVY * weights.max():
            chosen = np.zeros(len(marks.keep), bool)
            chosen[group] = True
            digits.append((left, top, bottom, chosen))
    if len(digits) < 2:
        return []
    line = max(top for _, top, _, _ in digits), min(bottom for _, _, bottom, _ in digits)
    if line[1] - line[0] < ALIKE / 2 * tallest:
        return []
    return [chosen for *_, chosen in sorted(digits, key=lambda digit: digit[0])]


def _join_parts(cells: NDArray[np.int32], groups: list[list[int]]) -> list[list[int]]:
    """Return the `groups` of marks, joined if they belong to one digit."""
    waiting = [(group, np.isin(cells, group)) for group in groups]
    joined: list[tuple[list[int], Flags]] = []
    while waiting:
        group, flags = waiting.pop(0)
        partner = next((one for one in joined if _belong(one[1], flags)), None)
        if partner is None:
            joined.append((group, flags))
        else:  # joined, they may belong to a mark that neither of them belongs to alone
            joined = [one for one in joined if one is not partner]
            waiting.append((partner[0] + group, partner[1] | flags))
    return [group for group, _ in joined]


def _belong(one: Flags, other: Flags) -> bool:
    """Return whether two marks are parts of one digit: above each other, or close together."""
    first, second = _box_of(one), _box_of(other)
    shared = min(first[3], second[3]) - max(first[2], second[2])
    if shared >= STACKED * min(first[3] - first[2], second[3] - second[2]):
        return True
    tallest = max(first[1] - first[0], second[1] - second[0])
    reach = BROKEN * tallest + 1
    apart = max(first[0], second[0]) - min(first[1], second[1]), -shared
    return max(apart) < reach and _are_near(one, other, reach)


def _are_near(one: Flags, other: Flags, reach: float) -> bool:
    """Return whether a cell of `one` is nearer than `reach` cells to a cell of `other`."""
    far = int(np.ceil(reach)) - 1
    height, width = one.shape
    wide = np.pad(other, far)
    places = range(-far, far + 1)
    return any(
        bool((one & wide[far + y : far + y + height, far + x : far + x + width]).any())
        for y in places
        for x in places
        if y * y + x * x < reach * reach
    )


def _box_of(flags: Flags) -> tuple[int, int, int, int]:
    """Return the top, bottom, left and right of the set `flags`; bottom and right are exclusive."""
    rows, columns = box(flags)
    return rows.start, rows.stop, columns.start, columns.stop


def _ends(cells: Flags) -> int:
    """Return in how many places marks reach both the first and the last row of `cells`.

    A line may lie along such a row, so a row further inside is checked too.
    """
    first, last = (
        max(runs(row) for row in (side[0], side[min(INNER, len(side) - 1)]))
        for side in (cells, cells[::-1])
    )
    return min(first, last)


def _spans(marks: NDArray[np.int32], count: int, share: float) -> Flags:
    """Return which of the `count` marks span more than `share` of both the height and the width."""
    spans = np.ones(count, bool)
    places = np.nonzero(marks)
    for place, side in zip(places, marks.shape, strict=True):
        first, last = np.full(count, side), np.zeros(count, np.int64)
        np.minimum.at(first, marks[places], place)
        np.maximum.at(last, marks[places], place)
        spans &= last - first + 1 > share * side
    return spans
