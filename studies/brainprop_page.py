"""The table of docs/brainprop.md: the accuracy of BrainProp beside the paper and the baseline.

It is made from the cards and histories of published models and of the runs in docs/runs. Each run
is a folder with `history.csv` and, if the training is finished, `card.json`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from models.cards import Card, find_models
from models.publishing.markdown import table
from models.training.runs import find_runs, open_run, read_history

# (data set, network) -> published accuracy in % and epochs, each as mean (sd) over 10 seeds.
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
class TrainedRun:
    """A training, finished or not, as the table shows it."""

    key: tuple[str, str, str, str]  # data set, architecture, rule, preset
    history: list[dict[str, float]]
    epochs: int  # of the recipe
    card: Card | None  # None: the training is not finished


def page(prose: str, docs: Path, repository: Path) -> str:
    """Return docs/brainprop.md, whose text is `prose`, with a new table."""
    before, rest = prose.split(table(HEADER, []), 1)
    _, after = rest.split("\n\n", 1)
    return f"{before}{brainprop_table((docs / 'runs', repository))}\n\n{after}"


def brainprop_table(roots: Iterable[Path]) -> str:
    """Return a Markdown table with two rows for each task of the paper, one for each preset.

    Where several trainings fit a row, the last one in the last folder of `roots` is shown.
    """
    found = {result.key: result for root in roots for result in _trained_runs(root)}
    rows = []
    for (dataset, architecture), (paper_accuracy, paper_epochs) in PAPER.items():
        for preset, settings in PRESETS.items():
            ours, baseline = (
                found.get((dataset, architecture, rule, preset))
                for rule in ("brainprop", "backprop")
            )
            rows.append(
                (
                    *(f"{dataset} {architecture}", settings),
                    *(_accuracy(ours), paper_accuracy, _baseline_accuracy(ours, baseline)),
                    *(_epochs(ours), _epochs(baseline), paper_epochs),
                )
            )
    return table(HEADER, rows)


def epochs_to_99_percent(history: list[dict[str, float]]) -> int:
    """Return the first epoch, from 1, that reached 99 % of the best validation accuracy."""
    best = max(row["val_accuracy"] for row in history)
    return next(int(row["epoch"]) for row in history if row["val_accuracy"] >= 0.99 * best)


def _trained_runs(root: Path) -> Iterator[TrainedRun]:
    """Yield the trainings at or below `root`: unfinished ones first, then models by version."""
    for folder in find_runs(root):
        run = open_run(folder)
        if history := read_history(folder):
            key = (run.dataset, run.architecture, run.rule, run.recipe.preset)
            yield TrainedRun(key, history, run.recipe.epochs, None)
    for folder, card in sorted(find_models(root), key=lambda found: found[1].version):
        if card.training is None:  # imported
            continue
        recipe = card.training.recipe
        key = (card.dataset, card.architecture, card.rule, recipe.get("preset", ""))
        yield TrainedRun(key, read_history(folder), recipe["epochs"], card)


def _accuracy(result: TrainedRun | None) -> str:
    if result is None:
        return "not trained yet"
    if result.card is None:
        best = max(row["val_accuracy"] for row in result.history)
        return (
            f"unfinished, epoch {len(result.history)} of {result.epochs}: {best:.2%} (validation)"
        )
    if result.card.test is None:
        return f"{result.card.need_validation().accuracy:.2%} (validation)"
    low, high = result.card.test.interval
    return f"{result.card.test.accuracy:.2%} ({low:.2%} - {high:.2%})"


def _baseline_accuracy(ours: TrainedRun | None, baseline: TrainedRun | None) -> str:
    """Return the accuracy of the baseline, up to the same epoch if ours is not finished."""
    if ours and ours.card is None and baseline and len(baseline.history) >= len(ours.history):
        best = max(row["val_accuracy"] for row in baseline.history[: len(ours.history)])
        return f"{best:.2%} by the same epoch (validation)"
    on_card = ours.card.control if ours and ours.card else None
    if on_card is None or (baseline and baseline.card and baseline.card.test):
        return _accuracy(baseline)
    low, high = on_card.test_interval
    return f"{on_card.test_accuracy:.2%} ({low:.2%} - {high:.2%})"


def _epochs(result: TrainedRun | None) -> str:
    """Return the number of epochs, and after how many 99 % of the best accuracy was reached."""
    if result is None or not result.history:
        return "-"
    return f"{len(result.history)}, 99 % after {epochs_to_99_percent(result.history)}"
