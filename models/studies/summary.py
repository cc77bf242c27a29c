"""From the rows of a study to what is said of it: means, paired differences, verdicts."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from models.statistics import Difference, paired_difference
from models.studies.plan import PLAIN, Done, Group, chosen
from models.studies.results import Row, Trial

UNMEASURED = "Not measured yet."  # what a page says where there is no row
VERDICTS = {1: "helps", 0: "no difference found", -1: "hurts"}


@dataclass(frozen=True)
class Line:
    """A rule in a group under a condition, beside the baseline: trials paired by their seeds."""

    group: Group
    condition: str
    rule: str
    learning_rate: float
    strength: float
    images: int
    epochs: int
    ours: Mapping[Trial, Row]
    theirs: Mapping[Trial, Row]  # the baseline's, with the same seeds in the same order

    @property
    def seeds(self) -> int:
        """How many pairs there are."""
        return len(self.ours)

    def values(self, figure: str) -> list[float]:
        """A figure of the rows, such as "test", by seed."""
        return [float(row[figure]) for row in self.ours.values()]

    def has(self, figure: str) -> bool:
        """Whether all rows have it: a trial of two epochs has no accuracy after three."""
        return all(row.get(figure) for row in self.ours.values())

    def difference(self, figure: str) -> Difference | None:
        """The paired difference from the baseline; None for the baseline and for a single pair."""
        if self.rule == PLAIN or self.seeds < 2:
            return None
        return paired_difference(
            self.values(figure), [float(row[figure]) for row in self.theirs.values()]
        )


def lines(groups: Iterable[Group], done: Done) -> list[Line]:
    """What is known of each group, condition and rule: those with a pair of rows at least.

    Where there are rows of several budgets, the largest that the baseline has counts.
    """
    found = []
    for group in groups:
        constants = chosen(group, done)
        for condition in group.conditions:
            for rule in constants:
                line = _line(group, condition, rule, constants, done)
                if line is not None:
                    found.append(line)
    return found


def mean_and_deviation(values: Sequence[float]) -> str:
    """In %, such as "91.20 (0.31)"; without a deviation where there is one value only."""
    if len(values) < 2:
        return f"{100 * values[0]:.2f}"
    return f"{100 * statistics.mean(values):.2f} ({100 * statistics.stdev(values):.2f})"


def points(difference: Difference) -> str:
    """In percentage points, such as "+0.12 (-0.05 to +0.30)"."""
    mean, low, high = (100 * value for value in (difference.mean, difference.low, difference.high))
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def epochs_to(target: float, curve: Sequence[Row]) -> float | None:
    """Epochs until the validation accuracy is `target`, between two of them by a straight line."""
    before = 0.0
    for epoch, row in enumerate(curve, start=1):
        after = float(row["val_accuracy"])
        if after >= target:
            return epoch - (after - target) / (after - before) if epoch > 1 else 1.0
        before = after
    return None


def _line(
    group: Group,
    condition: str,
    rule: str,
    constants: Mapping[str, tuple[float, float]],
    done: Done,
) -> Line | None:
    rows = {
        name: {
            trial: row
            for trial, row in done.items()
            if (trial.dataset, trial.architecture, trial.optimizer)
            == (group.dataset, group.architecture, group.optimizer)
            and (trial.purpose, trial.condition, trial.rule) == ("report", condition, name)
            and (trial.learning_rate, trial.strength) == constants[name]
        }
        for name in (PLAIN, rule)
    }
    if not rows[PLAIN]:
        return None
    largest = max(rows[PLAIN], key=lambda trial: (trial.images * trial.epochs, trial.epochs))
    budget = (largest.images, largest.epochs)
    by_seed = {
        name: {
            trial.seed: trial
            for trial in sorted(found, key=lambda trial: trial.seed)
            if (trial.images, trial.epochs) == budget
        }
        for name, found in rows.items()
    }
    backends = {
        name: {seed: done[trial].get("backend") for seed, trial in found.items()}
        for name, found in by_seed.items()
    }
    # Another backend draws other initial weights: no pair.
    paired = [
        seed for seed, backend in backends[rule].items() if backends[PLAIN].get(seed) == backend
    ]
    if not paired:
        return None
    ours, theirs = (
        {by_seed[name][seed]: done[by_seed[name][seed]] for seed in paired}
        for name in (rule, PLAIN)
    )
    return Line(group, condition, rule, *constants[rule], *budget, ours, theirs)
