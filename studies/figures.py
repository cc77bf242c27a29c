"""The figures of the pages, as SVG files. The same rows always give the same file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, SymmetricalLogLocator

from studies.plan import BASELINE
from studies.results import Row
from studies.summary import Line, groups_of, rule_name, title

Curves = Mapping[str, Sequence[Row]]

COLOURS = {
    BASELINE: "black",
    "kernel": "tab:orange",
    "consolidating": "tab:blue",
    "pattern": "tab:green",
    "synaptic intelligence": "tab:red",
}


def draw_learning(lines: Sequence[Line], curves: Curves, target: Path) -> None:
    """Draw the validation accuracy by epoch into `target`, one panel for each group.

    Lines are means over the seeds, bands one standard deviation.
    """
    groups = groups_of(lines)
    rows = -(-len(groups) // 2)
    figure = Figure(figsize=(9, 2.7 * rows), layout="constrained")
    panels = figure.subplots(rows, 2, squeeze=False).flat
    for group, axes in zip(groups, panels, strict=False):
        for line in lines:
            if line.group is group:
                _band(axes, _by_epoch(line, curves, "val_accuracy"), line.rule)
        axes.set(title=title(group))
        _finish(axes, "epoch", "validation accuracy, %")
    for axes in list(panels):
        axes.set_axis_off()
    figure.axes[0].legend(fontsize="small")
    _save(figure, target)


def draw_differences(lines: Sequence[Line], target: Path) -> None:
    """Draw each paired difference of the test accuracy, with its 95 % interval, into `target`."""
    compared = [line for line in lines if line.difference("test")]
    names = list(dict.fromkeys(_comparison(line) for line in compared))
    rules = list(dict.fromkeys(line.rule for line in compared))
    figure = Figure(figsize=(9, 1 + 0.33 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="grey", linewidth=1)
    for rule in rules:
        off = 0.22 * (rules.index(rule) - (len(rules) - 1) / 2)
        of_rule = [line for line in compared if line.rule == rule]
        found = [line.difference("test") for line in of_rule]
        places = [names.index(_comparison(line)) + off for line in of_rule]
        lows, means, highs = (
            [100 * getattr(difference, end) for difference in found]
            for end in ("low", "mean", "high")
        )
        axes.hlines(places, lows, highs, color=COLOURS[rule])
        axes.plot(means, places, "o", color=COLOURS[rule], markersize=3, label=rule_name(rule))
    axes.set_yticks(range(len(names)), names, fontsize="small")
    axes.invert_yaxis()
    axes.set_xscale("symlog", linthresh=1)
    axes.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=(1, 2, 3, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set(
        xlabel="difference of the test accuracy from the baseline, percentage points\n"
        "(linear to 1, logarithmic beyond)"
    )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=len(rules), fontsize="small")
    _save(figure, target)


def draw_forgetting(lines: Sequence[Line], curves: Curves, target: Path) -> None:
    """Draw the mean validation accuracy of the tasks so far, after each task, into `target`.

    There is one panel for each group.
    """
    groups = groups_of(lines)
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for group, axes in zip(
        groups, figure.subplots(1, len(groups), squeeze=False).flat, strict=True
    ):
        for line in lines:
            if line.group is group:
                _band(axes, _by_task(line, curves), line.rule)
        axes.set_title(
            f"{group.dataset},\n{group.architecture}, {group.optimizer}", fontsize="small"
        )
        _finish(axes, "tasks learned", "mean accuracy on them, %")
    figure.axes[0].legend(fontsize="x-small")
    _save(figure, target)


def draw_ingredients(lines: Sequence[Line], curves: Curves, target: Path) -> None:
    """Draw training and validation accuracy by epoch into `target`.

    The left panel compares the numbers of blocks, the right one the ingredients.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    colours = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
    for number, line in enumerate(lines):
        for axes in (left, right):
            is_block = "block" in line.condition
            if is_block == (axes is left) or line.condition == "3-blocks":
                for quantity, style in (("accuracy", "--"), ("val_accuracy", "-")):
                    values = _by_epoch(line, curves, quantity).mean(axis=0)
                    label = line.condition if style == "-" else None
                    epochs = np.arange(1, len(values) + 1)
                    axes.plot(epochs, 100 * values, style, color=colours[number], label=label)
    for axes, panel in ((left, "blocks"), (right, "ingredients, on 3 blocks")):
        _finish(axes, "epoch", "accuracy, %")
        axes.set_title(f"{panel} (dashed: training)", fontsize="medium")
        axes.legend(fontsize="small")
    _save(figure, target)


def _comparison(line: Line) -> str:
    return f"{title(line.group)}, {line.condition}"


def _by_epoch(line: Line, curves: Curves, quantity: str) -> np.ndarray[tuple[int, int], np.dtype]:
    """Return a quantity of the curves of a line: (seeds, epochs)."""
    return np.array([[float(row[quantity]) for row in curves[trial.name]] for trial in line.ours])


def _by_task(line: Line, curves: Curves) -> np.ndarray[tuple[int, int], np.dtype]:
    """Return the mean validation accuracy over the tasks so far: (seeds, tasks learned)."""
    means = []
    for trial in line.ours:
        rows = curves[trial.name]
        learned = sorted({int(row["learned"]) for row in rows})
        means.append(
            [
                np.mean([float(r["val_accuracy"]) for r in rows if int(r["learned"]) == number])
                for number in learned
            ]
        )
    return np.array(means)


def _band(axes: mpl.axes.Axes, values: np.ndarray[tuple[int, int], np.dtype], rule: str) -> None:
    """Draw the mean over the first axis and, for several seeds, one standard deviation each way."""
    x, mean = np.arange(1, values.shape[1] + 1), 100 * values.mean(axis=0)
    axes.plot(x, mean, color=COLOURS[rule], label=rule_name(rule), linewidth=1.2)
    if len(values) > 1:
        deviation = 100 * values.std(axis=0, ddof=1)
        axes.fill_between(x, mean - deviation, mean + deviation, color=COLOURS[rule], alpha=0.15)


def _finish(axes: mpl.axes.Axes, x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def _save(figure: Figure, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # A date or random identifiers would make each file different. Text stays text, not outlines.
    with mpl.rc_context({"svg.hashsalt": target.name, "svg.fonttype": "none"}):
        figure.savefig(target, metadata={"Date": None, "Creator": None})
