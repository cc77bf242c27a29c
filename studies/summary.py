"""From the rows of a study to what is said of it: means, paired differences, verdicts."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from models.training.runs import THEN
from studies.statistics import Difference, paired_difference
from studies.plan import PLAIN, Done, Group, chosen
from studies.results import Row, Trial

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

    Where there are rows of several budgets, that counts which most of what is set side by side
    has, and of such budgets the largest: a larger study appears once it is as far as a smaller.
    """
    found = []
    for group in groups:
        reports = _reports(group, done)
        for (condition, rule), trials in reports.items():
            budget = _common_budget(group, condition, reports)
            ours, theirs = (
                {t.seed: t for t in some if (t.images, t.epochs) == budget}
                for some in (trials, reports[condition, PLAIN])
            )
            # Another backend draws other initial weights: no pair.
            paired = [
                seed
                for seed in sorted(ours.keys() & theirs.keys())
                if done[ours[seed]].get("backend") == done[theirs[seed]].get("backend")
            ]
            if paired:
                one = ours[paired[0]]
                found.append(
                    Line(
                        *(group, condition, rule, one.learning_rate, one.strength, *budget),
                        ours={ours[seed]: done[ours[seed]] for seed in paired},
                        theirs={theirs[seed]: done[theirs[seed]] for seed in paired},
                    )
                )
    return found


def groups_of(found: Iterable[Line]) -> list[Group]:
    """The groups of these lines, each once, in their order."""
    return list({id(line.group): line.group for line in found}.values())


def title(group: Group) -> str:
    """Such as "mnist, lenet, sgd"."""
    return f"{group.dataset}, {group.architecture}, {group.optimizer}"


def percent(line: Line) -> str:
    """The mean test accuracy in %, such as "91.2"."""
    return f"{100 * statistics.mean(line.values('test')):.1f}"


def mean_and_deviation(values: Sequence[float]) -> str:
    """In %, such as "91.20 (0.31)"; without a deviation where there is one value only."""
    if len(values) < 2:
        return f"{100 * values[0]:.2f}"
    return f"{100 * statistics.mean(values):.2f} ({100 * statistics.stdev(values):.2f})"


def points(difference: Difference) -> str:
    """In percentage points, such as "+0.12 (-0.05 to +0.30)"."""
    mean, low, high = (100 * value for value in (difference.mean, difference.low, difference.high))
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def backends_and_machines(rows: Iterable[Row]) -> tuple[str, str]:
    """The backends and the machines that trained these rows; some may have had several in turn."""
    rows = list(rows)
    backends, machines = (
        sorted({one for row in rows for one in row[name].split(THEN)})
        for name in ("backend", "machine")
    )
    return " and ".join(backends), " and ".join(machines)


def epochs_to(target: float, curve: Sequence[Row]) -> float | None:
    """Epochs until the validation accuracy is `target`, between two of them by a straight line.

    1 where it was reached in the first epoch, of which no more is known; None where it never was.
    """
    before = 0.0
    for epoch, row in enumerate(curve, start=1):
        after = float(row["val_accuracy"])
        if after >= target:
            return epoch - (after - target) / (after - before) if epoch > 1 else 1.0
        before = after
    return None


def _reports(group: Group, done: Done) -> dict[tuple[str, str], list[Trial]]:
    """(condition, rule) -> its reported trials with the chosen constants, of all budgets."""
    constants = chosen(group, done)
    return {
        (condition, rule): [
            trial
            for trial in done
            if (trial.dataset, trial.architecture, trial.optimizer)
            == (group.dataset, group.architecture, group.optimizer)
            and (trial.purpose, trial.condition, trial.rule) == ("report", condition, rule)
            and (trial.learning_rate, trial.strength) == constants[rule]
        ]
        for condition in group.conditions
        for rule in constants
    }


def _common_budget(
    group: Group, condition: str, reports: Mapping[tuple[str, str], Iterable[Trial]]
) -> tuple[int, int]:
    """(images, epochs) of what is set side by side: conditions that are to cost the same."""
    budget = group.conditions[condition]
    having = Counter(
        found
        for (other, _), trials in reports.items()
        if group.conditions[other] == budget
        for found in {(trial.images, trial.epochs) for trial in trials}
    )
    return max(
        having,
        key=lambda found: (having[found], found[0] * found[1], found[1]),
        default=(budget.images, budget.epochs),
    )
