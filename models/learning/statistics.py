"""The tests behind the gates: paired, exact, and sequential by alpha spending."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Booleans = npt.NDArray[np.bool_]

ONE_SIDED_95 = 1.6448536269514722  # the 95 % quantile of the normal distribution

ALPHA = 0.05
# A sequential test looks when the newer arm has this many votes, and at no other time.
LOOKS = (10, 20, 40, 80, 160, 320, 640)


@dataclass(frozen=True)
class Bound:
    """A mean and its one-sided 95 % lower bound."""

    mean: float
    low: float


def lower_bound(values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> Bound:
    """Return the weighted mean of paired differences (N,) and its one-sided 95 % lower bound.

    Weights are at least 0, and not all of them are 0. The bound is normal. A sample in which all
    pairs agree would have no variance, so one more pair that differs is assumed on either side.
    """
    total = weights.sum()
    mean = float(np.dot(weights, values) / total)
    squares = float(np.dot(weights**2, (values - mean) ** 2)) + 2 * float(weights.mean() ** 2)
    return Bound(mean, mean - ONE_SIDED_95 * math.sqrt(squares) / float(total))


def fisher(better: tuple[int, int], worse: tuple[int, int]) -> float:
    """Return the one-sided p-value of Fisher's exact test, that `better` succeeds more often.

    Both are (successes, trials). A small value is evidence for it. Without trials it is 1.
    """
    (hits, tries), (others, rest) = better, worse
    successes, most = hits + others, min(tries, hits + others)
    whole = _log_choose(tries + rest, successes)
    logs = [
        _log_choose(tries, k) + _log_choose(rest, successes - k) - whole
        for k in range(hits, most + 1)
        if 0 <= successes - k <= rest
    ]
    return min(1.0, sum(map(math.exp, logs)))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def spent(size: int, alpha: float = ALPHA) -> float:
    """Return the level of the look at `size` votes, one of LOOKS.

    The level spent so far grows in proportion to the votes (Kim and DeMets, Biometrika 74:149,
    1987). The looks share it without regard to their correlation (Bonferroni), so that together
    they are wrong with a probability of at most `alpha`, whatever the votes are.
    """
    before = max((other for other in LOOKS if other < size), default=0)
    return alpha * (size - before) / LOOKS[-1]


def decided(newer: Booleans, right: Booleans) -> str:
    """Return "better", "worse" or "undecided" for the newer of two arms.

    The arguments have one entry for each vote, in the order of their times: whether it is about the
    newer arm, and whether the answer was right. A look sees the votes until its time alone, so the
    decision does not depend on when it is asked for. "better" and "worse" have a level of ALPHA
    each.
    """
    for size in LOOKS:
        reached = np.flatnonzero(newer)[size - 1 : size]
        if not len(reached):
            break
        until = slice(int(reached[0]) + 1)
        ours, so_far = newer[until], right[until]
        arm = int(so_far[ours].sum()), size
        older = int(so_far[~ours].sum()), int((~ours).sum())
        if fisher(arm, older) < spent(size):
            return "better"
        if fisher(older, arm) < spent(size):
            return "worse"
    return "undecided"
