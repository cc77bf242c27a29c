"""A data set as a picture: some of its images, and how many of each class it has."""

from collections import Counter
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure, FigureBase

from models.data.datasets import Arrays, DataSet

_CLASSES = 12  # of which images are shown, drawn evenly
_EACH = 8  # images of a class
_NAMED = 60  # classes, at most, whose names fit below the histogram


def draw(known: DataSet, arrays: Arrays, target: Path) -> None:
    """Write a PNG: training images of up to _CLASSES classes, and a histogram of all classes."""
    shown = np.unique(np.linspace(0, len(known.labels) - 1, _CLASSES).round().astype(int))
    height = 0.7 * len(shown) + 3.2
    figure = Figure(figsize=(9, height), layout="constrained")
    rows = figure.add_gridspec(2, 1, height_ratios=(0.7 * len(shown) + 0.2, 3))
    top, bottom = figure.add_subfigure(rows[0]), figure.add_subfigure(rows[1])
    grid = top.subplots(len(shown), _EACH, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for row, number in zip(grid, shown, strict=True):
        row[0].set_title(known.labels[number], loc="left", fontsize=8, pad=2)
        places = np.flatnonzero(arrays.y_train == number)[:_EACH]
        for axes, image in zip(row, arrays.x_train[places], strict=False):
            axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    _histogram(bottom, known, arrays)
    figure.savefig(target, format="png", dpi=110, metadata={"Software": None})


def _histogram(figure: FigureBase, known: DataSet, arrays: Arrays) -> None:
    axes = figure.subplots()
    below = np.zeros(len(known.labels))
    splits = {"train": arrays.y_train, "test": arrays.y_test}
    if arrays.validation is not None:
        splits["val"] = arrays.validation[1]
    for name, labels in splits.items():
        counts = Counter(labels.tolist())
        heights = np.array([counts[number] for number in range(len(known.labels))])
        axes.bar(range(len(heights)), heights, bottom=below, label=f"{name}: {len(labels):,}")
        below = below + heights
    axes.set(ylabel="pictures", title=f"{known.name}: {len(known.labels)} classes")
    if len(known.labels) <= _NAMED:
        axes.set_xticks(range(len(known.labels)), known.labels, rotation=90, fontsize=7)
    axes.legend(fontsize=8)
