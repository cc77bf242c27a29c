"""Training batches: shuffled, augmented, and reproducible for each epoch."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import keras
import numpy as np

from models.data.datasets import Images, Labels, scaled
from models.data.preparation import WORKERS, Prepared, one_hot, prepared, workers
from models.plasticity.learning import Rows, labels_alone

AHEAD = 2 * WORKERS  # batches that are prepared in advance
VALIDATED = 500  # images at once


class TrainingBatches(keras.utils.PyDataset):
    """Batches of (images float32 in 0..1, targets float32[, loss weights float32]).

    Batch i of epoch e depends only on the seed, e and i, so that a resumed training repeats an
    uninterrupted one. A few batches are prepared in advance. Pass `shuffle=False` to `fit`,
    because this class shuffles the images. The last batch of an epoch may be smaller.
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
        teach: Callable[[Any], Rows] | None = None,
    ) -> None:
        """Start with epoch 0.

        `targets` and `loss_weights` are those of models/plasticity/learning.py. By default, targets
        are one-hot labels (N, classes). `teach` returns soft labels (N, classes) for augmented
        images. With it, targets are pairs (N, 2, classes), as models/training/distillation.py
        explains.
        """
        super().__init__()
        self._images, self._labels = images, labels
        self.classes = classes
        self._batch_size, self._seed = batch_size, seed
        self._augmentations = augmentations
        self._targets, self._loss_weights, self._teach = targets, loss_weights, teach
        self.start_epoch(0)

    def __len__(self) -> int:
        return -(-len(self._images) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        images, labels, random = self._drawn(index)
        # After the augmentation, so that a model and its baseline see the same images.
        targets = self._targets(labels, random)
        if self._teach is not None:
            targets = np.stack([targets, self._teach(images)], axis=1)
        if self._loss_weights is None:
            return images, targets
        return images, targets, keras.ops.convert_to_numpy(self._loss_weights(images))

    def start_epoch(self, epoch: int) -> None:
        """Switch to the batches of `epoch` (from 0).

        Keras' on_epoch_end is not used, because Keras also calls it after it has inspected one
        batch before the first epoch.
        """
        self._epoch = epoch
        self._order = np.random.default_rng((self._seed, epoch)).permutation(len(self._images))
        self._waiting: dict[int, Future[Prepared]] = {}

    def _drawn(self, index: int) -> Prepared:
        """Return a batch, and start the preparation of the next ones."""
        for number in range(index, min(index + 1 + AHEAD, len(self))):
            if number not in self._waiting:
                start = number * self._batch_size
                chosen = self._order[start : start + self._batch_size]
                self._waiting[number] = workers().submit(
                    prepared,
                    *(self._images[chosen], self._labels[chosen], self.classes),
                    *(self._augmentations, (self._seed, self._epoch, number)),
                )
        return self._waiting.pop(index).result()


class ValidationBatches(keras.utils.PyDataset):
    """Batches of (images float32 in 0..1, targets float32), in order, as they are asked for."""

    def __init__(
        self, images: Images, labels: Labels, classes: int, targets: Callable[[Rows], Any]
    ) -> None:
        super().__init__()
        self._images, self._labels, self._classes = images, labels, classes
        self._targets = targets

    def __len__(self) -> int:
        return -(-len(self._images) // VALIDATED)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        part = slice(index * VALIDATED, (index + 1) * VALIDATED)
        rows = one_hot(self._labels[part], self._classes)
        return scaled(self._images[part]), self._targets(rows)
