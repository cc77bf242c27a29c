"""Paired differences over a few runs."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# The 97.5 % quantile of Student's t distribution for 1 to 30 degrees of freedom.
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
MOST_RUNS = len(_T) + 1


@dataclass(frozen=True)
class Difference:
    """The mean of `ours - theirs` over paired runs, with its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """Return 1 if the interval lies above 0, -1 if it lies below, and 0 if it contains 0."""
        return (self.low > 0) - (self.high < 0)


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Return the mean of `ours - theirs` and its 95 % interval by Student's t distribution.

    Both have the same length, from 2 to MOST_RUNS. Values at the same place are a pair.
    """
    differences = [our - their for our, their in zip(ours, theirs, strict=True)]
    mean = statistics.mean(differences)
    error = statistics.stdev(differences) / len(differences) ** 0.5
    half = _T[len(differences) - 2] * error
    return Difference(mean, mean - half, mean + half)
