"""Choose the votes that a network learns from, and those that it is judged by."""

import numpy as np

from models.learning.gates import known_classes
from models.learning.trust import MOST_OF_A_KEY
from models.learning.vote_arrays import MOST_VOTES, UNKNOWN, Votes

HELD_OUT = 0.2  # of the votes, the newest ones: a challenger is judged by them
_FAIR = 2  # times the equal share of a class, which no class exceeds while others have votes


def split_by_time(votes: Votes) -> tuple[Votes, Votes]:
    """Return (earlier, later) votes. The later ones are the newest HELD_OUT of all."""
    votes = votes[np.argsort(votes.times, kind="stable")]
    first = len(votes) - round(HELD_OUT * len(votes))
    return votes[:first], votes[first:]


def reservoir(votes: Votes, classes: int, most: int = MOST_VOTES) -> Votes:
    """Return at most `most` of the votes, in the order of their times.

    The newest ones come first, but no key gets more than MOST_OF_A_KEY of the places (admins have
    no limit), and no class more than twice its equal share. Places that are left then go to the
    newest of the other votes, whatever their class.
    """
    newest = np.argsort(-votes.times, kind="stable")
    right = known_classes(votes)
    of_class = np.where(right == UNKNOWN, votes.answers, right)
    by_key: dict[str, int] = {}
    by_class = np.zeros(classes, int)
    chosen, waiting = [], []

    def has_place(place: int) -> bool:
        if votes.admins[place]:
            return True
        return by_key.get(str(votes.keys[place]), 0) < MOST_OF_A_KEY * most

    def take(place: int) -> None:
        name = str(votes.keys[place])
        by_key[name] = by_key.get(name, 0) + 1
        by_class[of_class[place]] += 1
        chosen.append(place)

    for place in newest:
        if len(chosen) == most:
            break
        if by_class[of_class[place]] >= _FAIR * most / classes:
            waiting.append(place)
        elif has_place(place):
            take(place)
    for place in waiting:
        if len(chosen) < most and has_place(place):
            take(place)
    kept = np.array(chosen, int)
    return votes[kept[np.argsort(votes.times[kept], kind="stable")]]
