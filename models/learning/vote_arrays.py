"""Votes as arrays, as the learner and its gates need them."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.data.datasets import Labels
from models.errors import MetaplasticError
from models.votes import Vote

NONE = -1  # instead of a version
UNKNOWN = -1  # the label of a picture for which nobody has given one
MOST_VOTES = 5000  # a learner reads no more, the newest first


@dataclass(frozen=True)
class Votes:
    """Votes on answers, in the order of their times. All arrays have one entry for each vote."""

    images: npt.NDArray[np.uint8]  # (N, height, width, channels), as the network saw them
    answers: Labels  # the class that the service answered
    rewards: npt.NDArray[np.float32]  # 1: right, 0: wrong
    labels: Labels  # the right class as the user gave it, else UNKNOWN
    keys: npt.NDArray[np.str_]  # who voted: the name of the key, else the address
    times: npt.NDArray[np.float64]  # seconds since 1970, UTC
    versions: npt.NDArray[np.int64]  # the version that answered
    admins: npt.NDArray[np.bool_]  # whether an admin voted
    challengers: npt.NDArray[np.int64]  # the challenger at that time, NONE without one
    disputed: npt.NDArray[np.bool_]  # whether champion and challenger gave different answers
    canary: npt.NDArray[np.bool_]  # whether chance let the challenger answer

    def __len__(self) -> int:
        return len(self.answers)

    def __getitem__(self, chosen: Any) -> "Votes":
        """Return the votes at `chosen`, a slice, places or a mask."""
        return Votes(
            **{field.name: getattr(self, field.name)[chosen] for field in dataclasses.fields(self)}
        )


def vote_arrays(votes: Sequence[Vote], shape: tuple[int, int, int]) -> Votes:
    """Return `votes`, the oldest first, as arrays. `shape` is that of the model's images.

    Raises MetaplasticError for a picture of another shape.
    """
    known = [vote.prediction for vote in votes]
    if odd := [one for one in known if one.pixels.shape != shape]:
        raise MetaplasticError(
            f"prediction {odd[0].id}: expected a picture of {shape}, found {odd[0].pixels.shape}"
        )
    both = [one.both for one in known]
    return Votes(
        images=np.array([one.pixels for one in known], np.uint8).reshape(-1, *shape),
        answers=np.array([one.answer for one in known], np.int64),
        rewards=np.array([vote.right for vote in votes], np.float32),
        labels=np.array([UNKNOWN if v.label is None else v.label for v in votes], np.int64),
        keys=np.array([vote.voter for vote in votes], np.str_),
        times=np.array([vote.voted for vote in votes], np.float64),
        versions=np.array([one.version for one in known], np.int64),
        admins=np.array([vote.by_admin for vote in votes], np.bool_),
        challengers=np.array([NONE if b is None else b.challenger for b in both], np.int64),
        disputed=np.array(
            [b is not None and b.champion_answer != b.challenger_answer for b in both], np.bool_
        ),
        canary=np.array([one.canary for one in known], np.bool_),
    )
