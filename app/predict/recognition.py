"""Recognition: a network's outcome for each picture, and the choice among a picture's readings."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from app.catalogue.catalogue import Model
from app.catalogue.network import Network
from app.images.grids import Floats
from app.images.readings import Prepared
from app.images.styles import Reading
from app.predict.inference import Outcome, infer, join
from app.telemetry.record import timed
from models.cards import Calibration

AS_USUAL = "as usual"


class AskedBoth(NamedTuple):
    """What the champion and the challenger said about one picture, where both were asked."""

    model: Model  # whose answer counts
    answers: tuple[int, int]  # indices of the labels: the champion's, and the challenger's


class Seen(NamedTuple):
    """One picture as a network saw it, with the outcome."""

    reading: Reading
    outcome: Outcome  # of this picture alone
    marks: tuple[Reading, ...]  # digits that stand side by side, from left to right
    both: AskedBoth | None = None

    @property
    def label(self) -> int:
        """Return the index of the most probable label."""
        return int(self.outcome.probabilities[0].argmax())


def recognise(
    network: Network, calibration: Calibration | None, pictures: list[Prepared]
) -> list[Seen]:
    """Return `pictures` as `network` saw them, each in the reading with the best energy score.

    The usual readings of all pictures are in one batch. If the usual reading of a picture is
    doubtful, its other readings are in the batch too. If a usual reading turns out to be unlike the
    training data, a reading that is like it replaces it.
    """
    asked = [_all(one) if one.doubtful else {AS_USUAL: one.first} for one in pictures]
    outcome = _ask(network, calibration, asked)
    alone = len(pictures) == len(outcome.energy) == 1
    if alone and outcome.is_familiar(0) is not False:  # most requests
        (first,) = asked[0].values()
        return [Seen(first, outcome, first.marks)]
    seen, start = [], 0
    for one, readings in zip(pictures, asked, strict=True):
        rows = slice(start, start + len(readings))
        start += len(readings)
        reading, found = _choose(readings, outcome.of(rows))
        if not one.doubtful and found.is_familiar(0) is False and len(_all(one)) > 1:
            others = join([found, _ask(network, calibration, [one.others])])
            instead = _choose(_all(one), others)
            if instead[1].is_familiar(0):
                reading, found = instead
        seen.append(Seen(reading, found, reading.marks or one.first.marks))
    return seen


def _ask(
    network: Network, calibration: Calibration | None, asked: list[dict[str, Reading]]
) -> Outcome:
    pixels = [reading.pixels for readings in asked for reading in readings.values()]
    batch = pixels[0][None] if len(pixels) == 1 else np.stack(pixels)
    return infer(network, batch, calibration)


@timed("prepare")
def _all(one: Prepared) -> dict[str, Reading]:
    """Return every reading of a picture by its name, the usual one first."""
    return ({AS_USUAL: one.usual} if one.usual else {}) | one.others


def _choose(readings: dict[str, Reading], outcome: Outcome) -> tuple[Reading, Outcome]:
    """Return the reading with the best energy score, and its part of `outcome`.

    Doubtful readings only count if all readings are doubtful.
    """
    if len(readings) == 1:
        return next(iter(readings.values())), outcome
    doubted = np.array([reading.doubtful for reading in readings.values()])
    best = int(np.where(doubted & ~doubted.all(), -np.inf, outcome.energy).argmax())
    name, reading = list(readings.items())[best]
    told = f"read in {len(readings)} ways, the most familiar one kept: {name}"
    return reading.after([told]), outcome.of(slice(best, best + 1))


def recognise_with_both(
    champion: Model, challenger: Model, draws: Callable[[Floats], bool], pictures: list[Prepared]
) -> list[Seen]:
    """Return `pictures` as the champion saw them, or as the challenger did.

    The challenger answers only if the two disagree and `draws` says so about the picture as the
    champion received it.
    """
    seen: list[Seen] = []
    by_champion = recognise(champion.network, champion.calibration, pictures)
    by_challenger = recognise(challenger.network, challenger.calibration, pictures)
    for first, second in zip(by_champion, by_challenger, strict=True):
        answers = first.label, second.label
        model, one = champion, first
        if answers[0] != answers[1] and draws(first.reading.pixels):
            model, one = challenger, second
        seen.append(one._replace(both=AskedBoth(model, answers)))
    return seen
