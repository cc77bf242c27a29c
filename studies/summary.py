"""Summarise the rows of a study: means, paired differences and verdicts."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from models.training.runs import THEN
from studies.groups import REFERENCE
from studies.plan import BASELINE, Done, Group, chosen
from studies.results import Row, Trial
from studies.statistics import Difference, paired_difference

UNMEASURED = "Not measured yet."  # the text of a page where there are no rows
VERDICTS = {1: "helps", 0: "no difference found", -1: "hurts"}


@dataclass(frozen=True)
class Pairs:
    """Trials, each beside the baseline's trial with the same seed and backend."""

    ours: Mapping[Trial, Row]
    theirs: Mapping[Trial, Row]  # the baseline's, in the same order

    @property
    def seeds(self) -> int:
        """Return the number of pairs."""
        return len(self.ours)

    def values(self, figure: str) -> list[float]:
        """Return one figure of our rows, such as "test", in the order of the seeds."""
        return [float(row[figure]) for row in self.ours.values()]

    def has(self, figure: str) -> bool:
        """Return whether all our rows have `figure`. Short trials lack "validation_3"."""
        return all(row.get(figure) for row in self.ours.values())

    def difference(self, figure: str) -> Difference | None:
        """Return the paired difference from the baseline.

        Return None for the baseline itself and for fewer than two pairs.
        """
        if self.seeds < 2 or self.ours.keys() == self.theirs.keys():
            return None
        return paired_difference(
            self.values(figure), [float(row[figure]) for row in self.theirs.values()]
        )


@dataclass(frozen=True)
class Line(Pairs):
    """A rule in a group under a condition, beside the baseline."""

    group: Group
    condition: str
    rule: str
    learning_rate: float
    strength: float
    images: int
    epochs: int


def paired(
    ours: Mapping[Trial, Row], theirs: Mapping[Trial, Row], same_backend: bool = True
) -> Pairs:
    """Pair the trials that have the same seed, in the order of the seeds.

    Backends draw different initial weights, so trials of different backends are not pairs. With
    `same_backend=False` they are: different networks share only the order of the images.
    """
    by_seed, baseline = (
        {(trial.seed, same_backend and row.get("backend")): trial for trial, row in rows.items()}
        for rows in (ours, theirs)
    )
    keys = sorted(by_seed.keys() & baseline.keys(), key=lambda key: key[0])
    return Pairs(
        ours={by_seed[key]: ours[by_seed[key]] for key in keys},
        theirs={baseline[key]: theirs[baseline[key]] for key in keys},
    )


def lines(groups: Iterable[Group], done: Done) -> list[Line]:
    """Return a line for each group, condition and rule with at least one pair of rows.

    Where there are rows with several budgets, the line uses the budget that most of the compared
    rules and conditions have, and the largest one of equals. So a larger study replaces a smaller
    one once it is equally complete.
    """
    found = []
    for group in groups:
        reports = _reports(group, done)
        for (condition, rule), trials in reports.items():
            budget = _common_budget(group, condition, reports)
            ours, theirs = (
                {trial: done[trial] for trial in some if (trial.images, trial.epochs) == budget}
                for some in (trials, reports[condition, BASELINE])
            )
            pairs = paired(ours, theirs)
            if pairs.seeds:
                one = next(iter(pairs.ours))
                found.append(
                    Line(
                        *(pairs.ours, pairs.theirs, group, condition, rule),
                        *(one.learning_rate, one.strength, *budget),
                    )
                )
    return found


def groups_of(found: Iterable[Line]) -> list[Group]:
    """Return the groups of these lines, each once, in their order."""
    return list({id(line.group): line.group for line in found}.values())


def title(group: Group) -> str:
    """Return the title of a group, such as "mnist, lenet, sgd"."""
    return f"{group.dataset}, {group.architecture}, {group.optimizer}"


def rule_name(rule: str) -> str:
    """Return the name of a rule as the pages show it."""
    return {BASELINE: "baseline", REFERENCE: "Synaptic Intelligence"}.get(rule, rule)


def percent(line: Line) -> str:
    """Return the mean test accuracy in %, such as "91.2"."""
    return f"{100 * statistics.mean(line.values('test')):.1f}"


def mean_and_deviation(values: Sequence[float]) -> str:
    """Return mean and standard deviation of shares (0..1) in %, such as "91.20 (0.31)".

    A single value has no deviation.
    """
    if len(values) < 2:
        return f"{100 * values[0]:.2f}"
    return f"{100 * statistics.mean(values):.2f} ({100 * statistics.stdev(values):.2f})"


def points(difference: Difference) -> str:
    """Return a difference in percentage points, such as "+0.12 (-0.05 to +0.30)"."""
    mean, low, high = (100 * value for value in (difference.mean, difference.low, difference.high))
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def backends_and_hardware(rows: Iterable[Row]) -> tuple[str, str]:
    """Return the backends and the hardware of these rows, each name once.

    A training that was resumed elsewhere has several, joined by THEN.
    """
    rows = list(rows)
    backends, hardware = (
        sorted({one for row in rows for one in row[name].split(THEN)})
        for name in ("backend", "hardware")
    )
    return " and ".join(backends), " and ".join(hardware)


def epochs_to(target: float, curve: Sequence[Row]) -> float | None:
    """Return the number of epochs until the validation accuracy reaches `target`.

    Between two epochs, accuracy is interpolated linearly. Return 1 if the first epoch reached the
    target, because earlier values are unknown, and None if no epoch did.
    """
    before = 0.0
    for epoch, row in enumerate(curve, start=1):
        after = float(row["val_accuracy"])
        if after >= target:
            return epoch - (after - target) / (after - before) if epoch > 1 else 1.0
        before = after
    return None


def _reports(group: Group, done: Done) -> dict[tuple[str, str], list[Trial]]:
    """Return the reported trials with the chosen constants, by (condition, rule)."""
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
    """Return (images, epochs) of the trials that `condition` shows.

    Conditions that are planned with the same budget are shown with the same budget.
    """
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
