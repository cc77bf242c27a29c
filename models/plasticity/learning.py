"""Optimizer, loss and targets of a training: back-propagation, which learning rules modify."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]  # (N, classes)


def labels_alone(labels: Rows, random: np.random.Generator | None) -> Rows:
    """Return the labels as targets."""
    return labels


def _cross_entropy() -> keras.losses.Loss:
    return keras.losses.CategoricalCrossentropy(from_logits=True)


@dataclass(frozen=True)
class Learning:
    """An optimizer, a loss and the targets that the loss compares with the outputs.

    `Learning(optimizer)` is the baseline: cross-entropy with one-hot labels. All functions of a
    batch depend on their arguments alone, so that a resumed training repeats them.
    """

    optimizer: keras.optimizers.Optimizer
    loss: keras.losses.Loss = field(default_factory=_cross_entropy)  # of (targets, outputs)
    outputs: str = "logits"  # the meaning of the network's outputs
    accuracy: str | keras.metrics.Metric = "accuracy"  # of (targets, outputs)
    # One-hot labels -> targets, one for each image. Without a generator: targets for validation.
    targets: Callable[[Rows, np.random.Generator | None], Any] = labels_alone
    loss_weights: Callable[[Any], Any] | None = None  # images -> loss weights (N,)
