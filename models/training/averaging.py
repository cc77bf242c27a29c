"""Weight averaging: the mean over the ends of the last epochs (Izmailov et al., UAI 2018).

Late in a training, the weights move around in a flat region. Their mean lies closer to its centre
and generalises better (arXiv 1803.05407). The moving statistics of batch normalisation belong to
other weights than the mean. So they are measured again, on augmented training images.

The weights of each epoch stay in a file until `count` newer files exist, so that an interrupted
training can continue.
"""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from models.data.batches import TrainingBatches

_TAIL = "tail-{epoch:04d}.weights.npz"
_BATCHES = 200  # number of batches for the statistics of batch normalisation

Weights = list[npt.NDArray[np.float32]]


def keep_tail(folder: Path, epoch: int, weights: Weights, count: int) -> None:
    """Save the weights at the end of `epoch` (from 1) and delete those of `count` epochs before."""
    partial = folder / f".partial-{_TAIL.format(epoch=epoch)}"
    np.savez(partial, *weights)
    partial.replace(folder / _TAIL.format(epoch=epoch))
    (folder / _TAIL.format(epoch=epoch - count)).unlink(missing_ok=True)


def tail_mean(folder: Path, last: int, count: int) -> Weights:
    """Return the mean of the saved weights of the `count` epochs up to `last`, or of all before."""
    epochs = range(max(1, last - count + 1), last + 1)
    totals: Weights = []
    for epoch in epochs:
        with np.load(folder / _TAIL.format(epoch=epoch)) as stored:
            weights = [stored[f"arr_{place}"].astype(np.float64) for place in range(len(stored))]
        totals = [t + w for t, w in zip(totals, weights, strict=True)] if totals else weights
    return [(total / len(epochs)).astype(np.float32) for total in totals]


def has_tail(folder: Path) -> bool:
    """Return whether weights of epochs wait in `folder` to be averaged."""
    return any(folder.glob("tail-*.weights.npz"))


def measure_batch_norm(model: keras.Model, batches: TrainingBatches) -> None:
    """Set the moving statistics of `model` to their mean over the first _BATCHES batches."""
    norms = batch_norms(model)
    if not norms:
        return
    usual = [layer.momentum for layer in norms]
    for place in range(min(_BATCHES, len(batches))):
        for layer in norms:
            layer.momentum = place / (place + 1)  # makes the moving average a plain mean
        _forward(model, batches[place][0])
    for layer, momentum in zip(norms, usual, strict=True):
        layer.momentum = momentum


def batch_norms(model: keras.Model) -> Sequence[keras.layers.Layer]:
    """Return the batch normalisation layers of a network."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def _forward(model: keras.Model, images: npt.NDArray[np.float32]) -> None:
    if keras.backend.backend() == "torch":
        import torch

        with torch.no_grad():
            model(images, training=True)
    else:
        model(images, training=True)
