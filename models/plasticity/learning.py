"""What a network is trained with: plain error back-propagation, of which a rule changes a part."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]  # (N, classes)


def labels_alone(labels: Rows, random: np.random.Generator | None) -> Rows:
    """The labels themselves are what an image's answer is compared with."""
    return labels


def _cross_entropy() -> keras.losses.Loss:
    return keras.losses.CategoricalCrossentropy(from_logits=True)


@dataclass(frozen=True)
class Learning:
    """An optimizer and a loss, and what the loss is told of each image.

    `Learning(optimizer)` is the plain baseline: cross-entropy on the one-hot labels. All functions
    of a batch depend on their arguments alone, so that a resumed training repeats them.
    """

    optimizer: keras.optimizers.Optimizer
    loss: keras.losses.Loss = field(default_factory=_cross_entropy)  # of (targets, outputs)
    outputs: str = "logits"  # what the loss makes of the network's answers
    accuracy: str | keras.metrics.Metric = "accuracy"  # of the same
    # One-hot labels -> targets, one for each image; without a generator, as for validation.
    targets: Callable[[Rows, np.random.Generator | None], Any] = labels_alone
    loss_weights: Callable[[Any], Any] | None = None  # images -> the weight of each one's loss
