"""The table of docs/brainprop.md: what BrainProp reaches, beside the paper and backprop.

It is made of the cards and histories of published models and of runs kept as evidence in docs/runs,
a folder each with `history.csv` and, of a finished training, `card.json`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from models.cards import Card, find_models
from models.publishing.markdown import table
from models.training.runs import find_runs, open_run, read_history

# (data set, network) -> accuracy in % and epochs, each mean (sd) over 10 seeds; as published.
PAPER = {
    ("mnist", "dense"): ("98.68 (0.07)", "-"),
    ("mnist", "conv"): ("99.31 (0.04)", "63 (18)"),
    ("mnist", "loccon"): ("-", "-"),
    ("cifar10", "loccon"): ("-", "-"),
    ("cifar10", "deep"): ("88.88 (0.27)", "105 (4)"),
    ("cifar100", "loccon"): ("-", "-"),
    ("cifar100", "deep"): ("59.58 (0.46)", "218 (22)"),
    ("tiny-imagenet", "deep"): ("47.50 (1.30)", "328 (75)"),
}
PRESETS = {"": "the paper's", "fast": "`fast`"}
HEADER = (
    *("task", "settings", "BrainProp", "the paper", "backprop"),
    *("epochs: BrainProp", "backprop", "the paper"),
)


@dataclass(frozen=True)
class Result:
    """A training as the table needs it."""

    key: tuple[str, str, str, str]  # data set, architecture, rule, preset
    history: list[dict[str, float]]
    epochs: int  # of the recipe
    card: Card | None  # None of an unfinished one


def page(prose: str, docs: Path, shelf: Path) -> str:
    """docs/brainprop.md, written by hand as `prose`, with its table renewed."""
    before, rest = prose.split(table(HEADER, []), 1)
    _, after = rest.split("\n\n", 1)
    return f"{before}{brainprop_table((docs / 'runs', shelf))}\n\n{after}"


def brainprop_table(roots: Iterable[Path]) -> str:
    """A Markdown table with two rows for each of the paper's tasks, one for either setting.

    Of several trainings, that is shown which stands in the last of `roots`, at its end.
    """
    found = {result.key: result for root in roots for result in _results(root)}
    rows = []
    for (dataset, architecture), (paper_accuracy, paper_epochs) in PAPER.items():
        for preset, settings in PRESETS.items():
            ours, twin = (
                found.get((dataset, architecture, rule, preset))
                for rule in ("brainprop", "backprop")
            )
            rows.append(
                (
                    *(f"{dataset} {architecture}", settings),
                    *(_accuracy(ours), paper_accuracy, _control(ours, twin)),
                    *(_epochs(ours), _epochs(twin), paper_epochs),
                )
            )
    return table(HEADER, rows)


def epochs_to_99_percent(history: list[dict[str, float]]) -> int:
    """The first epoch, from 1, that reached 99 % of the best validation accuracy."""
    best = max(row["val_accuracy"] for row in history)
    return next(int(row["epoch"]) for row in history if row["val_accuracy"] >= 0.99 * best)


def _results(root: Path) -> Iterator[Result]:
    """The trainings at or below `root`: unfinished ones first, then by their version."""
    for folder in find_runs(root):
        run = open_run(folder)
        if history := read_history(folder):
            key = (run.dataset, run.architecture, run.rule, run.recipe.preset)
            yield Result(key, history, run.recipe.epochs, None)
    for folder, card in sorted(find_models(root), key=lambda found: found[1].version):
        recipe = card.training.recipe
        key = (card.dataset, card.architecture, card.rule, recipe.get("preset", ""))
        yield Result(key, read_history(folder), recipe["epochs"], card)


def _accuracy(result: Result | None) -> str:
    if result is None:
        return "not trained yet"
    if result.card is None:
        best = max(row["val_accuracy"] for row in result.history)
        return (
            f"unfinished, epoch {len(result.history)} of {result.epochs}: {best:.2%} (validation)"
        )
    if result.card.test is None:
        return f"{result.card.validation.accuracy:.2%} (validation)"
    low, high = result.card.test.interval
    return f"{result.card.test.accuracy:.2%} ({low:.2%} - {high:.2%})"


def _control(ours: Result | None, twin: Result | None) -> str:
    """The twin's accuracy: where ours is unfinished, at the same epoch; else as cards have it."""
    if ours and ours.card is None and twin and len(twin.history) >= len(ours.history):
        best = max(row["val_accuracy"] for row in twin.history[: len(ours.history)])
        return f"{best:.2%} by the same epoch (validation)"
    control = ours.card.control if ours and ours.card else None
    if control is None or (twin and twin.card and twin.card.test):
        return _accuracy(twin)
    low, high = control.test_interval
    return f"{control.test_accuracy:.2%} ({low:.2%} - {high:.2%})"


def _epochs(result: Result | None) -> str:
    """Epochs trained, and those it took to 99 % of the best accuracy."""
    if result is None or not result.history:
        return "-"
    return f"{len(result.history)}, 99 % after {epochs_to_99_percent(result.history)}"
