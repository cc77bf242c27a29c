"""Training batches: shuffled, augmented, and reproducible for each epoch."""

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

# numpy and Pillow release Python's lock while they compute, so threads run in parallel. Without
# threads, a network on a GPU would wait for batches. One core is left for the training itself.
_THREADS = max(1, min(8, (os.cpu_count() or 1) - 1))
_POOL = ThreadPoolExecutor(_THREADS, thread_name_prefix="batch")
AHEAD = 2 * _THREADS  # batches that are prepared in advance

# Images, labels, and the generator for everything else that is random in the batch.
_Drawn = tuple[npt.NDArray[np.float32], Rows, np.random.Generator]


class TrainingBatches(keras.utils.PyDataset):
    """Batches of (images float32 in 0..1, targets float32[, loss weights float32]).

    Batch i of epoch e depends only on the seed, e and i, so that a resumed training repeats an
    uninterrupted one. Threads prepare a few batches in advance. Pass `shuffle=False` to `fit`,
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
        self._images, self._labels = images, one_hot(labels, classes)
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
        self._waiting: dict[int, Future[_Drawn]] = {}

    def _drawn(self, index: int) -> _Drawn:
        """Return a batch, and start the preparation of the next ones."""
        for number in range(index, min(index + 1 + AHEAD, len(self))):
            if number not in self._waiting:
                start = number * self._batch_size
                chosen = self._order[start : start + self._batch_size]
                seed = (self._seed, self._epoch, number)
                self._waiting[number] = _POOL.submit(self._draw, chosen, seed)
        return self._waiting.pop(index).result()

    def _draw(self, chosen: npt.NDArray[np.int64], seed: tuple[int, int, int]) -> _Drawn:
        random = np.random.default_rng(seed)
        pixels, labels = scaled(self._images[chosen]), self._labels[chosen]
        images, labels = augment(pixels, labels, self._augmentations, random)
        return images, labels, random


def one_hot(labels: Labels, classes: int) -> Rows:
    """Return labels (N,) as float32 rows (N, classes) with a single 1."""
    return np.eye(classes, dtype=np.float32)[labels]
