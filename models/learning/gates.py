"""The gates between a challenger and the service.

    home     it answers the validation split of the data set no worse than the published version
    stream   it answers later votes, which it did not learn from, better than the champion
    canary   it answered pictures on which both disagree, and its answers got more thumbs up

Home and one of the other two must pass. "passed" and "failed" are findings at a one-sided level
of 5 %. "undecided" means that the votes cannot tell. No finding may rest on one key alone: it must
also hold without the votes of any single key, except those of admins.

Thumbs on the champion's own answers cannot show that a challenger is better. Where the champion was
right, another answer is wrong. Where it was wrong, another answer may be right or wrong. So the
stream gate counts the least possible gain before it lets a challenger pass, and the most possible
gain before it lets one fail.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.data.datasets import Labels
from models.learning.statistics import LOOKS, Booleans, decided, lower_bound
from models.learning.vote_arrays import UNKNOWN, Votes

Floats = npt.NDArray[np.float64]

PASSED, FAILED, UNDECIDED = "passed", "failed", "undecided"
# The most accuracy that a challenger may lose at home, in 0..1, by data set.
MOST_LOST = {"cifar10": 0.003, "cifar100": 0.003}
MOST_LOST_ELSEWHERE = 0.001
_HEAVIEST = 20  # keys with the most votes, each of which is left out once


@dataclass(frozen=True)
class Verdict:
    """What a gate found."""

    gate: str
    verdict: str  # PASSED, FAILED or UNDECIDED
    reason: str  # the figures behind it, for people
    votes: int  # or images


def home_gate(dataset: str, published: Labels, challenger: Labels, labels: Labels) -> Verdict:
    """Compare two answers (N,) to the validation images, whose right classes are `labels`.

    The challenger passes if the one-sided 95 % bound of its loss is within the limit of the data
    set. Otherwise it fails: without evidence that nothing is lost, nothing is promoted.
    """
    limit = MOST_LOST.get(dataset, MOST_LOST_ELSEWHERE)
    change = (challenger == labels).astype(float) - (published == labels)
    found = lower_bound(change, np.ones(len(change)))
    return Verdict(
        "home",
        PASSED if found.low >= -limit else FAILED,
        f"{100 * found.mean:+.2f} points on {len(labels)} validation images, at least "
        f"{100 * found.low:+.2f} (limit {-100 * limit:+.2f})",
        len(labels),
    )


def stream_gate(votes: Votes, champion: Labels, challenger: Labels, weights: Floats) -> Verdict:
    """Compare two answers (N,) to the pictures of `votes`, which the challenger did not learn from.

    `weights` (N,) are those of trust.py.
    """
    right = known_classes(votes)
    known = right != UNKNOWN
    change = np.where(known, (challenger == right).astype(float) - (champion == right), 0.0)
    # After a thumb down without a label, the class that was answered is wrong, and any other one
    # may be right. The least and the most that the challenger can have gained are both counted.
    differ = ~known & (challenger != champion)
    least = change - (differ & (challenger == votes.answers))
    most = change + (differ & (challenger != votes.answers))
    judged = weights > 0

    def finding(chosen: Booleans) -> str:
        if not (chosen & judged).any():
            return UNDECIDED
        ours = lower_bound(least[chosen], weights[chosen])
        theirs = lower_bound(-most[chosen], weights[chosen])
        return PASSED if ours.low > 0 else FAILED if theirs.low > 0 else UNDECIDED

    verdict = _without_any_key(votes, finding)
    means = [np.average(each, weights=weights) if judged.any() else 0.0 for each in (least, most)]
    labels = int((votes.labels != UNKNOWN).sum())
    return Verdict(
        "stream",
        verdict,
        f"{100 * means[0]:+.2f} to {100 * means[1]:+.2f} points on {len(votes)} later votes, of "
        f"which {labels} have a label",
        len(votes),
    )


def canary_gate(votes: Votes, challenger: int) -> Verdict:
    """Compare the thumbs on disputed pictures that chance gave to champion or challenger.

    `challenger` is its version. The challenger passes or fails by a sequential test.
    """
    asked = votes[votes.disputed & (votes.challengers == challenger)]
    newer = asked.canary
    right = right_answers(asked)

    def finding(chosen: Booleans) -> str:
        return _VERDICTS[decided(newer[chosen], right[chosen])]

    verdict, shares = _without_any_key(asked, finding), _shares(newer, right)
    if verdict == UNDECIDED and newer.sum() >= LOOKS[-1]:
        # There are no more looks, and another challenger shall have its turn.
        return Verdict("canary", FAILED, f"no difference found: {shares}", len(asked))
    return Verdict("canary", verdict, shares, len(asked))


def live_gate(votes: Votes, champion: int, former: int) -> Verdict:
    """Compare the thumbs on the champion's answers with those on the former champion's.

    Both are versions. It fails if the champion's are worse, by the sequential test. The former
    champion's votes come from earlier days, so that other pictures since then count as well.
    """
    newer, older = votes.versions == champion, votes.versions == former
    asked, newer = votes[newer | older], newer[newer | older]
    right = right_answers(asked)

    def finding(chosen: Booleans) -> str:
        return _VERDICTS[decided(newer[chosen], right[chosen])]

    return Verdict("live", _without_any_key(asked, finding), _shares(newer, right), len(asked))


_VERDICTS = {"better": PASSED, "worse": FAILED, "undecided": UNDECIDED}


def known_classes(votes: Votes) -> Labels:
    """Return the right class (N,) of each picture, as its vote says, or UNKNOWN."""
    praised = (votes.labels == UNKNOWN) & (votes.rewards > 0)
    return np.where(praised, votes.answers, votes.labels)


def right_answers(votes: Votes) -> Booleans:
    """Return whether each answer was right (N,), as its vote says."""
    right: Booleans = known_classes(votes) == votes.answers
    return right


def _without_any_key(votes: Votes, finding: Callable[[Booleans], str]) -> str:
    """Return the finding on all votes, if it holds without any one key, else UNDECIDED."""
    found = finding(np.ones(len(votes), bool))
    if found == UNDECIDED or all(finding(rest) == found for rest in _without_one(votes)):
        return found
    return UNDECIDED


def _without_one(votes: Votes) -> Iterator[Booleans]:
    names, counts = np.unique(votes.keys[~votes.admins], return_counts=True)
    for name in names[np.argsort(-counts, kind="stable")][:_HEAVIEST]:
        yield votes.admins | (votes.keys != name)


def _shares(newer: Booleans, right: Booleans) -> str:
    return (
        f"{right[newer].sum()} of {newer.sum()} right, before {right[~newer].sum()} of "
        f"{(~newer).sum()}"
    )
