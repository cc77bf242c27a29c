"""The plan of a study: groups of trials, in which constants are chosen before they are reported.

The learning rate of the baseline and the strength of each rule get the same number of tries. All
tries are trained under one condition, with seeds that no reported trial has. The best mean accuracy
on the validation split decides: first the learning rate, by the baseline alone, then the strength
of each rule at this rate. Only trials with the chosen constants are reported.
"""

import dataclasses
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from models.errors import MetaplasticError
from studies.results import Row, Trial
from studies.statistics import MOST_RUNS

BASELINE = "plain"  # the name of the baseline in the column `rule` of docs/results
TUNING_SEEDS = (1000, 1001)  # no reported trial has one of these

Done = Mapping[Trial, Row]


@dataclass(frozen=True)
class Budget:
    """The size of one trial."""

    images: int  # of the training split
    epochs: int
    fixed: bool = False  # True: never more images, because their number is what is studied


@dataclass(frozen=True)
class Group:
    """A network on a data set with an optimizer, and what is compared with them."""

    dataset: str
    architecture: str
    optimizer: str
    conditions: Mapping[str, Budget]
    seeds: int
    rates: tuple[float, ...]  # tries of the learning rate; a single one is used without a try
    strengths: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # rule -> its tries
    tuning: Budget | None = None  # of each try; None: that of the reported trials
    tuned_on: str = "clean"  # the condition of the tries, which choose for all conditions

    def trial(self, condition: str, purpose: str, rule: str, seed: int, **rest: float) -> Trial:
        """Return one trial of the group. `rest`: `learning_rate`, and perhaps `strength`."""
        budget = self.tuning if purpose == "tuning" else None
        budget = budget or self.conditions[condition]
        return Trial(
            dataset=self.dataset,
            architecture=self.architecture,
            condition=condition,
            optimizer=self.optimizer,
            purpose=purpose,
            rule=rule,
            images=budget.images,
            epochs=budget.epochs,
            seed=seed,
            learning_rate=float(rest["learning_rate"]),
            strength=float(rest.get("strength", 0)),
        )

    @property
    def rules(self) -> tuple[str, ...]:
        """Return the baseline and the rules that are compared with it."""
        return BASELINE, *self.strengths


@dataclass(frozen=True)
class Limits:
    """Limits from the command line. None leaves a group unchanged."""

    seeds: int | None = None
    epochs: int | None = None
    images: int | None = None
    parts: Collection[str] = ()  # the conditions to carry out; empty: all

    def apply(self, groups: Iterable[Group]) -> list[Group]:
        """Return the groups within these limits.

        Tries with a budget of their own can become smaller but not larger, so that larger reported
        trials use the same constants. Raises MetaplasticError for a number out of range.
        """
        for name, value, most in (
            ("seeds", self.seeds, MOST_RUNS),
            ("epochs", self.epochs, 10_000),
            ("images", self.images, 10_000_000),
        ):
            if value is not None and not 1 <= value <= most:
                raise MetaplasticError(f"{name}: expected 1 to {most}, found {value}")
        limited = [self._limited(group) for group in groups]
        return [group for group in limited if group.conditions]

    def _limited(self, group: Group) -> Group:
        conditions = {
            name: self._more(budget)
            for name, budget in group.conditions.items()
            if not self.parts or name in self.parts
        }
        tuning = group.tuning and self._less(group.tuning)
        seeds = self.seeds or group.seeds
        return dataclasses.replace(group, conditions=conditions, tuning=tuning, seeds=seeds)

    def _more(self, budget: Budget) -> Budget:
        if budget.fixed:
            return dataclasses.replace(self._less(budget), epochs=self.epochs or budget.epochs)
        return Budget(self.images or budget.images, self.epochs or budget.epochs)

    def _less(self, budget: Budget) -> Budget:
        images = min(budget.images, self.images or budget.images)
        epochs = min(budget.epochs, self.epochs or budget.epochs)
        return dataclasses.replace(budget, images=images, epochs=epochs)


def plan(groups: Iterable[Group], done: Done) -> list[Trial]:
    """Return all trials of `groups` that are known so far, whether done or not.

    Reported trials become known once the tries that choose their constants are done.
    """
    return [trial for group in groups for trial in _group_plan(group, done)]


def chosen(group: Group, done: Done) -> dict[str, tuple[float, float]]:
    """Return (learning rate, strength) for each rule, or nothing while a try is missing."""
    rate = _best(_rate_tries(group), done)
    if rate is None:
        return {}
    strengths = {rule: _best(tries, done) for rule, tries in _strength_tries(group, rate).items()}
    found = {BASELINE: (rate, 0.0)}
    for rule, strength in strengths.items():
        if strength is None:
            return {}
        found[rule] = (rate, strength)
    return found


def _group_plan(group: Group, done: Done) -> list[Trial]:
    rates = _rate_tries(group)
    trials = [trial for tries in rates.values() for trial in tries]
    rate = _best(rates, done)
    if rate is None:
        return trials
    for strengths in _strength_tries(group, rate).values():
        trials += [trial for tries in strengths.values() for trial in tries]
    constants = chosen(group, done)
    trials += [
        group.trial(
            condition,
            "report",
            rule,
            seed,
            learning_rate=constants[rule][0],
            strength=constants[rule][1],
        )
        for condition in group.conditions
        for seed in range(group.seeds)
        for rule in constants
    ]
    return trials


def _rate_tries(group: Group) -> dict[float, list[Trial]]:
    """Return the trials of each learning rate. A single rate has no trials."""
    return {
        rate: _tries(group, BASELINE, rate, 0.0) if len(group.rates) > 1 else []
        for rate in group.rates
    }


def _strength_tries(group: Group, rate: float) -> dict[str, dict[float, list[Trial]]]:
    """Return the trials of each strength, for each rule. A single strength has no trials."""
    return {
        rule: {
            strength: _tries(group, rule, rate, strength) if len(strengths) > 1 else []
            for strength in strengths
        }
        for rule, strengths in group.strengths.items()
    }


def _tries(group: Group, rule: str, rate: float, strength: float) -> list[Trial]:
    return [
        group.trial(group.tuned_on, "tuning", rule, seed, learning_rate=rate, strength=strength)
        for seed in TUNING_SEEDS
    ]


def _best(tries: Mapping[float, Sequence[Trial]], done: Done) -> float | None:
    """Return the constant with the best mean validation accuracy, the first one of equals.

    Return None while a trial is missing.
    """
    if len(tries) == 1:
        return next(iter(tries))
    if any(trial not in done for trials in tries.values() for trial in trials):
        return None
    means = {
        constant: statistics.mean(float(done[trial]["validation"]) for trial in trials)
        for constant, trials in tries.items()
    }
    return max(means, key=lambda constant: means[constant])
