"""The readings of a picture: several ways to prepare it, if the usual way is not certain.

The usual reading takes what extends to the picture's edges for the paper. If that shows nothing, or
nothing familiar, there are other readings: without a frame, with the largest light or dark area as
the paper, without a pattern of lines, with an uneven paper such as fog, and the picture as it is.
The network runs on all of them in one batch, and the reading with the best energy score is kept
(Liu, Wang, Owens & Li, "Energy-based Out-of-distribution Detection", 2020).
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import ParamSpec

import numpy as np
from PIL import Image

from app.errors import RequestError
from app.images import paper
from app.images.grids import Floats, luma
from app.images.ink import blank
from app.images.paper import Paper
from app.images.styles import UNFRAMED, Reading, digit_on, garment_on, photo
from app.images.unchanged import (
    as_in_fashion_mnist,
    as_in_mnist,
    as_it_is,
    filled,
    larger_fashion_mnist,
)
from models.cards import ImageInput, Style
from models.pictures import on_paper

P = ParamSpec("P")

# Content is searched at no more than this many times the network's size, ...
WORKING = 12
# ... and in other readings at no more than this many times.
WORKING_AGAIN = 6

# Ink on an area inside the picture has at least this strength: the lines of squared paper are
# weaker.
AREA_FLOOR = 0.3

Exact = Callable[[Image.Image], Reading | None]
OnPaper = Callable[[Paper, Floats, ImageInput, float], Reading]
INKED: dict[Style, tuple[Exact, OnPaper]] = {
    "digit": (as_in_mnist, digit_on),
    "garment": (as_in_fashion_mnist, garment_on),
}


class Prepared:
    """A prepared picture, for every network that takes the same input."""

    def __init__(
        self,
        usual: Reading | None,
        more: Callable[[], dict[str, Reading]] = dict,
        doubtful: bool = False,
    ) -> None:
        self.usual = usual  # None if it shows nothing
        self._more = more
        # Whether the other readings are tried even if the usual one is familiar to a network.
        self.doubtful = doubtful or usual is None or usual.doubtful

    @cached_property
    def others(self) -> dict[str, Reading]:
        """Return the other readings by their names. They are made by the first call."""
        return self._more()

    @property
    def first(self) -> Reading:
        """Return the usual reading, or the first of the others if the usual one shows nothing."""
        return self.usual or next(iter(self.others.values()))


def looked_at(target: ImageInput) -> int:
    """Return the most pixels a side in which digits and garments are searched."""
    return WORKING * max(target.width, target.height)


def read(image: Image.Image, target: ImageInput, steps: Sequence[str] = ()) -> Prepared:
    """Return the readings of an upright picture, to which `steps` were applied before.

    Raises RequestError 422 `no_content` if no reading shows anything.
    """
    if target.style == "photo":
        return Prepared(photo(image, target).after(steps))
    exact, on = INKED[target.style]
    unchanged = exact(image) if image.size == (target.width, target.height) else None
    if unchanged is not None and not unchanged.doubtful:
        return Prepared(unchanged.after(steps))
    pixels, flattened = on_paper(image, looked_at(target))
    done = [*steps, *flattened]
    if unchanged is None and target.style == "garment":  # unlike digits, garments fill pictures
        surrounded = paper.inside_frame(pixels)
        if surrounded is not None:
            pixels, done = surrounded, [*done, UNFRAMED]
        unchanged = larger_fashion_mnist(pixels, target)
        if unchanged is not None:
            return Prepared(unchanged.after(done))
    framed = unchanged is not None  # possibly: a white frame looks like the ground of a negative
    if unchanged is not None:
        unchanged = unchanged._replace(doubtful=False)
    usual = unchanged or _try(on, paper.around(pixels), pixels, target, 0)

    def more() -> dict[str, Reading]:
        return {name: other.after(done) for name, other in _others(pixels, target, on).items()}

    prepared = Prepared(usual and usual.after(done), more, doubtful=framed)
    if usual is None and not prepared.others:
        raise blank()
    return prepared


def _others(pixels: Floats, target: ImageInput, on: OnPaper) -> dict[str, Reading]:
    """Return the other readings of `pixels`, except those that show nothing."""
    pixels = _half(luma(pixels)[..., None], WORKING_AGAIN * max(target.width, target.height))
    found: dict[str, Reading | None] = {"as it is": _try(as_it_is, pixels, target)}
    surrounded = paper.inside_frame(pixels)
    if surrounded is not None:
        whole = larger_fashion_mnist(surrounded, target) if target.style == "garment" else None
        found["frame removed"] = whole or _try(on, paper.around(surrounded), surrounded, target, 0)
    floor = AREA_FLOOR if target.style == "digit" else 0
    for light, name in ((True, "dark on a light area"), (False, "light on a dark area")):
        area = paper.area(pixels, light=light)
        # A garment goes from edge to edge itself, and is then not a paper.
        if area is not None and not (area.across and target.style == "garment"):
            found[name] = _try(on, area.paper, area.inside, target, floor)
    if target.style == "garment":
        found |= _filling(pixels, target)
    else:
        found |= _without_lines(pixels, target)
        if surrounded is None:  # with a frame, an uneven paper is unlikely
            found |= _on_uneven_paper(pixels, target)
    return {name: reading for name, reading in found.items() if reading is not None}


def _without_lines(pixels: Floats, target: ImageInput) -> dict[str, Reading | None]:
    """Return the reading of a digit in `pixels` without the pattern of its paper."""
    lined = paper.pattern(pixels)
    if lined is None:
        return {}
    found = {"pattern removed": _try(digit_on, lined, pixels, target)}
    if paper.has_lines(lined):  # the picture as it is includes these lines
        whole = _try(as_it_is, pixels, target)
        found["as it is"] = whole and whole._replace(doubtful=True)
    return found


def _on_uneven_paper(pixels: Floats, target: ImageInput) -> dict[str, Reading | None]:
    """Return the readings of a digit in uneven light or fog."""
    ways = {"dark on an uneven paper": True, "light on an uneven paper": False}
    uneven = {name: paper.local(pixels, dark=dark) for name, dark in ways.items()}
    return {
        name: _try(digit_on, paper, pixels, target)
        for name, paper in uneven.items()
        if paper is not None
    }


def _filling(pixels: Floats, target: ImageInput) -> dict[str, Reading | None]:
    """Return the readings of a garment that fills `pixels`, or none. They replace "as it is"."""
    ways = {"as it is": False, "as it is, inverted": True}
    found = {name: _try(filled, pixels, target, light=light) for name, light in ways.items()}
    return found if any(found.values()) else {}


def _try(make: Callable[P, Reading], *args: P.args, **kwargs: P.kwargs) -> Reading | None:
    """Return the reading that `make` makes, or None if it shows nothing."""
    try:
        return make(*args, **kwargs)
    except RequestError:
        return None


def _half(pixels: Floats, longest: int) -> Floats:
    """Return `pixels` averaged over squares until neither side is above `longest`."""
    factor = -(-max(pixels.shape[:2]) // longest)
    if factor == 1:
        return pixels
    # A side that is shorter than a square becomes one pixel.
    down, across = (min(factor, side) for side in pixels.shape[:2])
    height, width = pixels.shape[0] // down, pixels.shape[1] // across
    cut = pixels[: height * down, : width * across]
    means: Floats = cut.reshape(height, down, width, across, -1).mean((1, 3), dtype=np.float32)
    return means
