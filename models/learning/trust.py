"""How much each vote counts: less from one key that votes much, and from one that admins refute."""

import numpy as np
import numpy.typing as npt

from models.learning.gates import known_classes
from models.learning.vote_arrays import UNKNOWN, Votes

# Of all votes that are learned from, the share that one key may have. Admins have no limit.
MOST_OF_A_KEY = 0.1
_BELIEVED = 4  # agreements with admins that every key starts with


def vote_weights(votes: Votes, judged: Votes | None = None) -> npt.NDArray[np.float64]:
    """Return the weight (N,) of each vote, from 0 to 1.

    A key has the weight of at most MOST_OF_A_KEY of all votes. What it loses no other one gains: so
    a single key moves the network little, however much it votes. `judged` are votes with admins'
    labels among them, by default `votes`.
    """
    weights = np.array([1.0] * len(votes))
    trust = trust_in_keys(votes if judged is None else judged)
    for name in np.unique(votes.keys):
        own = (votes.keys == name) & ~votes.admins
        if own.any():
            most = MOST_OF_A_KEY * len(votes) / own.sum()
            weights[own] = min(1.0, most) * trust.get(str(name), 1.0)
    return weights


def trust_in_keys(votes: Votes) -> dict[str, float]:
    """Return the trust (0..1) in each key whose pictures admins have labelled too.

    An admin's label is about the same picture if all pixels are equal. Of a key that is right with
    probability p, trust is 2 p - 1: one that is wrong as often as right says nothing.
    """
    labels = {
        image.tobytes(): int(label)
        for image, label, admin in zip(votes.images, votes.labels, votes.admins, strict=True)
        if admin and label != UNKNOWN
    }
    agreed: dict[str, list[bool]] = {}
    for place in np.flatnonzero(~votes.admins) if labels else ():
        right = labels.get(votes.images[place].tobytes())
        if right is not None:
            one = votes[[place]]
            (said,) = known_classes(one)
            agrees = said == right if said != UNKNOWN else one.answers[0] != right
            agreed.setdefault(str(votes.keys[place]), []).append(bool(agrees))
    return {
        name: max(0.0, 2 * (sum(those) + _BELIEVED) / (len(those) + _BELIEVED) - 1)
        for name, those in agreed.items()
    }
