"""The figures in the folder of a model: learning curves and confusion matrix."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from models.cards import Scores


def draw_curves(history: list[dict[str, float]], title: str, target: Path) -> None:
    """Draw loss and accuracy of training and validation by epoch, as a PNG."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(epochs, [row[quantity] for row in history], label="training")
        axes.plot(epochs, [row[f"val_{quantity}"] for row in history], label="validation")
        axes.set(xlabel="epoch", ylabel=quantity)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    _save(figure, target)


def draw_confusion(scores: Scores, labels: tuple[str, ...], title: str, target: Path) -> None:
    """Draw the confusion matrix as a PNG, each row as shares of its true class.

    With 20 classes or fewer, counts and labels are shown.
    """
    counts = np.array(scores.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(4.5, min(0.55 * len(labels), 14))
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    # The square root makes the few mistakes of a good network visible.
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    if len(labels) <= 20:
        axes.set_xticks(range(len(labels)), labels, rotation=90 if max(map(len, labels)) > 2 else 0)
        axes.set_yticks(range(len(labels)), labels)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.4 else "black"
                axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=8)
    _save(figure, target)


def _save(figure: Figure, target: Path) -> None:
    # The name of the software would include its version and change the file.
    figure.savefig(target, dpi=110, metadata={"Software": None})
