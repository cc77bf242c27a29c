"""Training batches: shuffled, augmented, and the same whenever the same epoch is drawn again."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

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
        teach: Callable[[Any], Rows] | None = None,
    ) -> None:
        """`targets` and `loss_weights` are the learning rule's: see models/plasticity/learning.py.

        Targets are the one-hot labels (N, classes) unless the rule says otherwise. `teach` gives
        a teacher's soft answers (N, classes) to augmented images; with it targets are pairs
        (N, 2, classes): see models/distillation.py.
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
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        random = np.random.default_rng((self._seed, self._epoch, index))
        images, labels = augment(
            scaled(self._images[chosen]), self._labels[chosen], self._augmentations, random
        )
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


def one_hot(labels: Labels, classes: int) -> Rows:
    """Labels (N,) as rows (N, classes) with a single 1."""
    return np.eye(classes, dtype=np.float32)[labels]
