"""Training batches: shuffled, augmented, and the same whenever the same epoch is drawn again."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from models.augmentation import augment
from models.datasets import Images, Labels, scaled
from models.plasticity.learning import Rows, labels_alone


class TrainingBatches(keras.utils.PyDataset):
    """Batches of (images float32 in 0..1, targets float32[, loss weights float32]).

    Batch i of epoch e depends on the seed, e and i alone, so that an interrupted training goes on
    as if it had not stopped. Pass `shuffle=False` to `fit`: the shuffling is done here. The last
    batch of an epoch may be smaller.
    """

    def __init__(
        self,
        images: Images,
        labels: Labels,
        classes: int,
        batch_size: int,
        seed: int,
        augmentations: Mapping[str, float],
        targets: Callable[[Rows, np.random.Generator], Any] = labels_alone,
        loss_weights: Callable[[Any], Any] | None = None,
        growing: int = 0,
    ) -> None:
        """`targets` and `loss_weights` are the learning rule's: see models/plasticity/learning.py.

        Targets are the one-hot labels (N, classes) unless the rule says otherwise. In the first
        `growing` epochs not all classes are there: see `epoch_order`.
        """
        super().__init__()
        self._images, self._labels = images, one_hot(labels, classes)
        self._classes, self._growing = labels, growing
        self._batch_size, self._seed = batch_size, seed
        self._augmentations = augmentations
        self._targets, self._loss_weights = targets, loss_weights
        self.start_epoch(0)

    def __len__(self) -> int:
        return -(-len(self._images) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        random = np.random.default_rng((self._seed, self._epoch, index))
        images = augment(scaled(self._images[chosen]), self._augmentations, random)
        # After the augmentation, so that twins by different rules see the same images.
        targets = self._targets(self._labels[chosen], random)
        if self._loss_weights is None:
            return images, targets
        return images, targets, keras.ops.convert_to_numpy(self._loss_weights(images))

    def start_epoch(self, epoch: int) -> None:
        """Draw the batches of `epoch` (from 0) from here on.

        Not left to Keras' on_epoch_end, which also comes after the batch that Keras looks at
        before the first epoch.
        """
        self._epoch = epoch
        self._order = epoch_order(self._classes, self._seed, epoch, self._growing)


def epoch_order(labels: Labels, seed: int, epoch: int, growing: int = 0) -> npt.NDArray[np.int64]:
    """The images of an epoch (from 0) in their order, as indices (N,) into `labels` (N,).

    Each image once; but in the first `growing` epochs only those of some classes, again and again
    until the epoch is full: of a tenth of the classes in the first one, of evenly more in each that
    follows. Which classes come first depends on the seed.
    """
    random = np.random.default_rng((seed, epoch))
    if epoch >= growing:
        return random.permutation(len(labels))
    classes = np.random.default_rng(seed).permutation(np.unique(labels))
    known = math.ceil(len(classes) * (0.1 + 0.9 * epoch / growing))
    images = np.flatnonzero(np.isin(labels, classes[:known]))
    passes = math.ceil(len(labels) / len(images))
    return np.concatenate([random.permutation(images) for _ in range(passes)])[: len(labels)]


def one_hot(labels: Labels, classes: int) -> Rows:
    """Labels (N,) as rows (N, classes) with a single 1."""
    return np.eye(classes, dtype=np.float32)[labels]
