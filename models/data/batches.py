"""Training batches: shuffled, augmented, and the same whenever the same epoch is drawn again."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from models.data.augmentation import augment
from models.data.datasets import Images, Labels, scaled
from models.plasticity.learning import Rows, labels_alone

# Numpy and Pillow let go of Python's lock while they compute. A network on a GPU waits for batches
# otherwise; on two cores one thread fills the gaps of the other.
_THREADS = max(1, min(8, (os.cpu_count() or 1) - 1))
_POOL = ThreadPoolExecutor(_THREADS, thread_name_prefix="batch")
AHEAD = 2 * _THREADS  # batches
VALIDATED = 500  # images at once

# Images, labels, and what draws the rest of what is random.
_Drawn = tuple[npt.NDArray[np.float32], Rows, np.random.Generator]


class TrainingBatches(keras.utils.PyDataset):
    """Batches of (images float32 in 0..1, targets float32[, loss weights float32]).

    Batch i of epoch e depends on the seed, e and i alone, so that an interrupted training goes on
    as if it had not stopped. A few are drawn ahead, in threads. Pass `shuffle=False` to `fit`: the
    shuffling is done here. The last batch of an epoch may be smaller.
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
        """`targets` and `loss_weights` are the learning rule's: see models/plasticity/learning.py.

        Targets are the one-hot labels (N, classes) unless the rule says otherwise. `teach` gives
        a teacher's soft answers (N, classes) to augmented images; with it targets are pairs
        (N, 2, classes): see models/training/distillation.py.
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
        # After the augmentation, so that twins by different rules see the same images.
        targets = self._targets(labels, random)
        if self._teach is not None:
            targets = np.stack([targets, self._teach(images)], axis=1)
        if self._loss_weights is None:
            return images, targets
        return images, targets, keras.ops.convert_to_numpy(self._loss_weights(images))

    def start_epoch(self, epoch: int) -> None:
        """Draw the batches of `epoch` (from 0) from here on.

        Not left to Keras' on_epoch_end, which also comes after the batch that Keras looks at
        before the first epoch.
        """
        self._epoch = epoch
        self._order = np.random.default_rng((self._seed, epoch)).permutation(len(self._images))
        self._waiting: dict[int, Future[_Drawn]] = {}

    def _drawn(self, index: int) -> _Drawn:
        """Return a batch, and have the next ones drawn while the network learns from it."""
        for number in range(index, min(index + 1 + AHEAD, len(self))):
            if number not in self._waiting:
                start = number * self._batch_size
                chosen = self._order[start : start + self._batch_size]
                seed = (self._seed, self._epoch, number)
                self._waiting[number] = _POOL.submit(self._draw, chosen, seed)
        return self._waiting.pop(index).result()

    def _draw(self, chosen: npt.NDArray[np.int64], seed: tuple[int, int, int]) -> _Drawn:
        random = np.random.default_rng(seed)
        pixels = scaled(self._images[chosen])
        labels = one_hot(self._labels[chosen], self.classes)
        images, labels = augment(pixels, labels, self._augmentations, random)
        return images, labels, random


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


def one_hot(labels: Labels, classes: int) -> Rows:
    """Labels (N,) as rows (N, classes) with a single 1."""
    return np.eye(classes, dtype=np.float32)[labels]
