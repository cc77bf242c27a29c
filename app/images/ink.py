"""Finding the ink in a picture: what stands on the paper, and how strongly, whatever the colours.

The ink is how far a pixel lies from the paper (app/images/paper.py) in the direction of the
strongest difference: dark or light, or of another hue at the same lightness.
"""

from dataclasses import dataclass

import numpy as np

from app.errors import RequestError
from app.images.grids import Floats, length, luma
from app.images.marks import Marks, find_marks
from app.images.paper import Paper

# Less difference than this between ink and paper, of 1, is no picture of anything.
FAINTEST = 0.04
# ... nor is less than this many standard deviations of the paper's own noise.
NOISE_MARGIN = 7.0

# Ink above this makes a mark; where there is none, nothing is shown.
MARKED = 0.35


@dataclass(frozen=True)
class Ink:
    """What stands on the paper of a picture."""

    strength: Floats  # (height, width): 0 on the paper, 1 for full ink
    dark: bool  # darker than the paper
    paper: Floats  # (height, width), the luma of the paper behind each pixel
    marks: Marks | None  # what the ink was tidied by

    @property
    def cleaned(self) -> bool:
        """Whether dust, a frame or a shadow was left out."""
        return self.marks is not None and self.marks.cleaned


def find_ink(pixels: Floats, paper: Paper, *, tidy: bool, floor: float = 0) -> Ink:
    """The ink on `paper` in `pixels`, (height, width, channels) in 0..1, one channel or three.

    `tidy` leaves out marks that are dust, a frame or a shadow at the edge; ink weaker than `floor`
    is paper.

    Raises RequestError 422 `no_content` where nothing stands out from the paper.
    """
    difference = pixels - paper.colour
    if paper.sheet is not None:
        difference = difference * paper.sheet[..., None]
    distance = length(difference)
    if _noise(distance) > 0.01:  # a photograph's grain; clean drawings stay sharp
        difference = _smooth(difference)
        distance = length(difference)
    strong = distance >= 0.6 * distance.max()
    if not strong.any():  # not a number, from a file of such
        raise blank()
    tone = difference[strong].mean(0)  # of the ink, as seen from the paper
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
    if not marked.any():  # noise, whose ink is everywhere and nowhere
        raise blank()
    marks = find_marks(marked) if tidy else None
    if marks is not None and marks.cleaned:
        strength *= marks.kept()
    return Ink(strength, float(luma(tone)) < 0, luma(paper.colour), marks)


def _noise(distance: Floats) -> float:
    """The standard deviation of the paper, from how far each pixel (height, width) is from it.

    Only what is nearer to the paper than to the ink is asked: an object may fill the picture.
    """
    few = distance[::2, ::2]
    near = few[few <= 0.5 * few.max()]
    return 1.4826 * float(np.median(near)) if near.size else np.inf


def blank() -> RequestError:
    """The refusal of a picture that shows nothing."""
    return RequestError(
        422, "no_content", "Nothing stands out in the picture: it is blank or nearly so."
    )


def _smooth(pixels: Floats) -> Floats:
    """The mean of 3x3 neighbours; edges are repeated."""
    padded = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    smooth: Floats = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / np.float32(9)
    return smooth
