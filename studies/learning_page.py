"""docs/learning.md: what networks learn from votes and what they forget, made from docs/results."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.publishing.markdown import table
from studies import learning_prose
from studies.learning_groups import FEW, RULES, TUNING, VOTES
from studies.plan import BASELINE, Done, Group, chosen
from studies.results import Row, Tables, Trial, read_done
from studies.statistics import Difference, paired_difference
from studies.summary import UNMEASURED, backends_and_hardware, mean_and_deviation, points

COMMAND = "python -m models compare learning"
HOME, CEILING, CEILING_ALONE = "home", "home, labels", "labels"
# The aims that the study was made for, in shares and in accuracy (0..1).
GAIN_OF_MANY, GAIN_OF_FEW, MOST_LOST, MOST_OF_PLAIN = 0.9, 0.65, 0.001, 0.2


@dataclass(frozen=True)
class Cell:
    """The reported trials of one rule on one network under one condition, by seed."""

    rows: Mapping[int, Row]

    def values(self, figure: str, seeds: Iterable[int] | None = None) -> list[float]:
        """Return one figure of the trials with these seeds, by default of all."""
        return [float(self.rows[seed][figure]) for seed in (self.rows if seeds is None else seeds)]

    def mean(self, figure: str) -> float:
        """Return the mean of one figure over the seeds."""
        return statistics.mean(self.values(figure))

    @property
    def gain(self) -> float:
        """Return how much the accuracy on shifted pictures rose."""
        return self.mean("test") - self.mean("before")

    @property
    def lost(self) -> float:
        """Return how much the accuracy at home fell."""
        return self.mean("before_home") - self.mean("test_home")


Place = tuple[str, str, str]  # data set, architecture, condition
Cells = Mapping[Place, Mapping[str, Cell]]  # -> rule -> its trials


def page(results: Path, images: Path) -> str:
    """Return the text of the page. `images` is the folder of its figures, of which it has none."""
    done = read_done(Tables(results, "learning"))
    cells = _cells(done)
    sections = [learning_prose.HOW, "## What was measured", learning_prose.QUESTION]
    if not cells:
        sections.append(f"{UNMEASURED} `{COMMAND}`")
    else:
        sections += [
            *("## The answer", _answer(cells)),
            *("## Accuracy on shifted pictures and at home", learning_prose.TABLES),
            *(text for place, found in cells.items() for text in _table(place, found)),
            *("## What metaplasticity adds", _metaplasticity(cells)),
        ]
    sections += [
        *("## What is not measured yet", _missing(cells)),
        *("## How it was measured", learning_prose.METHOD, *_constants(done), *_provenance(done)),
    ]
    return "\n\n".join(sections) + "\n"


def _cells(done: Done) -> Cells:
    cells: dict[Place, dict[str, Cell]] = {}
    for group in VOTES:
        constants = chosen(group, done)
        for condition in group.conditions:
            for rule in RULES:
                rows = {
                    trial.seed: row
                    for trial, row in done.items()
                    if _is_of(trial, group, condition, rule)
                    and (trial.learning_rate, trial.strength) == constants.get(rule)
                }
                if rows:
                    place = group.dataset, group.architecture, condition
                    cells.setdefault(place, {})[rule] = Cell(dict(sorted(rows.items())))
    return cells


def _is_of(trial: Trial, group: Group, condition: str, rule: str) -> bool:
    return (trial.dataset, trial.architecture, trial.condition, trial.rule, trial.purpose) == (
        *(group.dataset, group.architecture, condition, rule),
        "report",
    )


def _answer(cells: Cells) -> str:
    said = []
    for aim, text in (
        (GAIN_OF_MANY, "with 2,000 thumbs and home images, at least 90 % of what labels gain"),
        (GAIN_OF_FEW, "with 500 thumbs and home images, at least 65 % of what labels gain"),
    ):
        shares = {
            place: found[HOME].gain / found[CEILING].gain
            for place, found in cells.items()
            if {HOME, CEILING} <= set(found) and place[2].startswith(FEW) == (aim == GAIN_OF_FEW)
        }
        said.append(f"- Aim: {text}. {_against(shares, aim)}")
    lost = {
        place: -100 * found[HOME].lost
        for place, found in cells.items()
        if HOME in found and place[0] == "mnist"
    }
    verdict = _list((place, f"{change:+.2f}") for place, change in lost.items())
    met = sum(change >= -100 * MOST_LOST for change in lost.values())
    said.append(
        "- Aim: with home images, at most 0.1 points lost at home on MNIST. "
        + (f"Met in {met} of {len(lost)}: {verdict} points." if lost else UNMEASURED)
    )
    said.append(
        "- Aim: without home images, at most a fifth of the loss of plain learning. "
        + _without_replay(cells)
    )
    return "\n".join(said)


def _against(shares: Mapping[Place, float], aim: float) -> str:
    if not shares:
        return UNMEASURED
    met = sum(share >= aim for share in shares.values())
    return f"Met in {met} of {len(shares)}: " + (
        _list((place, f"{100 * share:.0f} %") for place, share in shares.items()) + "."
    )


def _without_replay(cells: Cells) -> str:
    said = []
    for place, found in cells.items():
        if BASELINE not in found or found[BASELINE].lost <= 0:
            continue
        for rule in ("consolidating", "synaptic intelligence", "l2"):
            if rule in found:
                share = found[rule].lost / found[BASELINE].lost
                met = "met" if share <= MOST_OF_PLAIN else "not met"
                said.append(f"{_name(place)}, {rule} {100 * share:.0f} % ({met})")
    return "; ".join(said) + "." if said else UNMEASURED


def _table(place: Place, found: Mapping[str, Cell]) -> Iterator[str]:
    first = next(iter(found.values()))
    yield (
        f"### {_name(place)}\n\nUntouched: {100 * first.mean('before'):.2f} % on these pictures, "
        f"{100 * first.mean('before_home'):.2f} % at home."
    )
    in_turn = any("test_first" in row and row["test_first"] for row in first.rows.values())
    body = []
    for rule, cell in found.items():
        row = [rule_title(rule), str(len(cell.rows)), mean_and_deviation(cell.values("test"))]
        ceiling = found.get(CEILING if rule.startswith(HOME) else CEILING_ALONE)
        share = f"{100 * cell.gain / ceiling.gain:.0f} %" if ceiling and ceiling.gain > 0 else ""
        row += [share, mean_and_deviation(cell.values("test_home"))]
        plain = found.get(BASELINE)
        kept = _difference(cell, plain, "test_home") if plain and plain is not cell else None
        row += [f"{-100 * cell.lost:+.2f}", points(kept) if kept else ""]
        if in_turn:
            row.append(mean_and_deviation(cell.values("test_first")))
        row.append(f"{cell.mean('seconds'):.0f}")
        body.append(row)
    header = [
        *("learner", "seeds", "shifted, % (sd)", "of the gain by labels", "home, % (sd)"),
        *("change at home", "home, beside plain votes, 95 %"),
        *(["first shift, % (sd)"] if in_turn else []),
        "processor s",
    ]
    yield table(header, body)


def _metaplasticity(cells: Cells) -> str:
    said = []
    for place, found in cells.items():
        for ours, theirs, when in (
            ("consolidating", BASELINE, "without home images"),
            ("home, consolidating", HOME, "beside home images"),
        ):
            if ours not in found or theirs not in found:
                continue
            shifted, home = (
                _difference(found[ours], found[theirs], figure) for figure in ("test", "test_home")
            )
            if shifted and home:
                said.append(
                    f"- {_name(place)}, {when}: {_verdict(shifted)} on shifted pictures, "
                    f"{_verdict(home)} at home."
                )
    return "\n".join(said) if said else UNMEASURED


def _verdict(found: Difference) -> str:
    word = {1: "better", 0: "no difference found", -1: "worse"}[found.sign]
    return f"{word}, {points(found)} points"


def _difference(ours: Cell, theirs: Cell, figure: str) -> Difference | None:
    seeds = sorted(ours.rows.keys() & theirs.rows.keys())
    if len(seeds) < 2:
        return None
    return paired_difference(ours.values(figure, seeds), theirs.values(figure, seeds))


def _missing(cells: Cells) -> str:
    said = []
    for group in VOTES:
        for condition in group.conditions:
            place = group.dataset, group.architecture, condition
            found = cells.get(place, {})
            lacking = {
                rule: group.seeds - len(found[rule].rows if rule in found else ())
                for rule in group.rules
            }
            if not found:
                said.append(f"- {_name(place)}: nothing.")
            elif any(lacking.values()):
                rules = ", ".join(
                    f"{rule_title(rule)} {count}" for rule, count in lacking.items() if count
                )
                said.append(f"- {_name(place)}, seeds that are missing: {rules}.")
    said.append(learning_prose.NOT_PLANNED)
    return "\n".join(said)


def _constants(done: Done) -> list[str]:
    body, seen = [], set()
    for group in VOTES:
        constants = chosen(group, done)
        network = f"{group.architecture} on {group.dataset}"
        if not constants or network in seen:
            continue
        seen.add(network)
        strengths = "; ".join(
            f"{rule} {constants[rule][1]:g} of {', '.join(f'{value:g}' for value in tries)}"
            for rule, tries in group.strengths.items()
            if len(tries) > 1
        )
        rates = ", ".join(f"{rate:g}" for rate in group.rates)
        body.append([network, f"{constants[BASELINE][0]:g} of {rates}", strengths])
    return [table(("network", "learning rate", "strengths"), body)] if body else []


def _provenance(done: Done) -> list[str]:
    if not done:
        return []
    rows = list(done.values())
    tries = sum(trial.condition == TUNING for trial in done)
    backends, hardware = backends_and_hardware(rows)
    hours = sum(float(row["seconds"]) for row in rows) / 3600
    return [
        f"{len(rows)} trials, {tries} of them to choose constants, took {hours:.1f} hours of one "
        f"processor. Hardware: {hardware}. Backends: {backends}. Each trial is a row of "
        f"[learning.csv](results/learning.csv). `{COMMAND}` carries out what is missing. "
        "`python -m models report learning` makes this page."
    ]


def rule_title(rule: str) -> str:
    """Return the name of a learner as the page shows it."""
    return {BASELINE: "plain votes", HOME: "home images", CEILING: "labels, home images"}.get(
        rule, rule.replace("home, ", "home images, ")
    )


def _name(place: Place) -> str:
    dataset, architecture, condition = place
    return f"{architecture} on {dataset}, {condition}"


def _list(parts: Iterable[tuple[Place, str]]) -> str:
    found: Sequence[str] = [f"{_name(place)} {text}" for place, text in parts]
    return "; ".join(found)
