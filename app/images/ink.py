"""The ink of a picture: what stands out from the paper, and how strongly, in any colours.

The strength of ink is a pixel's distance from the paper (app/images/paper.py) in the direction of
the strongest difference: dark, light, or another hue of the same lightness.
"""

from dataclasses import dataclass

import numpy as np

from app.errors import RequestError
from app.images.grids import Floats, length, luma
from app.images.marks import Marks, find_marks
from app.images.paper import Paper

# The least difference between ink and paper, of 1, ...
FAINTEST = 0.04
# ... and the least number of standard deviations of the paper's noise.
NOISE_MARGIN = 7.0

# Ink above this makes a mark. A picture without marks shows nothing.
MARKED = 0.35


@dataclass(frozen=True)
class Ink:
    """The ink on the paper of a picture."""

    strength: Floats  # (height, width): 0 on the paper, 1 for full ink
    dark: bool  # darker than the paper
    paper: Floats  # (height, width), the luma of the paper behind each pixel
    marks: Marks | None  # the marks by which dust and frames were left out, if they were

    @property
    def cleaned(self) -> bool:
        """Return whether dust, a frame or a shadow was left out."""
        return self.marks is not None and self.marks.cleaned


def find_ink(pixels: Floats, paper: Paper, *, tidy: bool, floor: float = 0) -> Ink:
    """Return the ink on `paper` in `pixels`, (height, width, 1 or 3) in 0..1.

    `tidy` leaves out marks that are dust, a frame or a shadow at the edge. Ink weaker than `floor`
    is taken for paper.

    Raises RequestError 422 `no_content` if nothing stands out from the paper.
    """
    difference = pixels - paper.colour
    if paper.sheet is not None:
        difference = difference * paper.sheet[..., None]
    distance = length(difference)
    if _noise(distance) > 0.01:  # a photograph's grain; clean drawings stay sharp
        difference = _smooth(difference)
        distance = length(difference)
    strong = distance >= 0.6 * distance.max()
    if not strong.any():  # all differences are NaN, as the file's values were
        raise blank()
    tone = difference[strong].mean(0)  # the ink's colour minus the paper's
    level = float(distance[strong].mean())
    if level < FAINTEST:
        raise blank()
    if np.linalg.norm(tone) > 0.8 * level:
        strength = difference @ (tone / (tone @ tone))
    else:  # inks of several colours
        strength = distance / level
    noise = _noise(np.abs(strength))
    if noise * NOISE_MARGIN > 1:
        raise blank()
    floor = max(floor, 3 * noise)
    strength = np.clip((strength - floor) / (1 - floor), 0, 1).astype(np.float32)
    marked = strength > MARKED
    if not marked.any():  # noise that is spread over the whole picture
        raise blank()
    marks = find_marks(marked) if tidy else None
    if marks is not None and marks.cleaned:
        strength *= marks.kept()
    return Ink(strength, float(luma(tone)) < 0, luma(paper.colour), marks)


def _noise(distance: Floats) -> float:
    """Return the standard deviation of the paper, given each pixel's distance from it.

    Only pixels nearer to the paper than to the ink count, since an object may fill the picture.
    """
    few = distance[::2, ::2]
    near = few[few <= 0.5 * few.max()]
    # The median absolute deviation of a normal distribution is its standard deviation / 1.4826.
    return 1.4826 * float(np.median(near)) if near.size else np.inf


def blank() -> RequestError:
    """Return the refusal of a picture that shows nothing."""
    return RequestError(
        422, "no_content", "The picture is blank or almost blank: nothing stands out in it."
    )


def _smooth(pixels: Floats) -> Floats:
    """Return the mean of 3x3 neighbours. Edges are repeated."""
    padded = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    smooth: Floats = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / np.float32(9)
    return smooth
