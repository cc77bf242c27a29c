"""One training on several GPUs of one machine: each has all weights, and a part of each batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from models.data.datasets import Images, Labels
from models.data.storage import select
from models.errors import MetaplasticError

Split = tuple[Images, Labels]


class _DataParallel(keras.distribution.DataParallel):
    """Keras' data parallelism, in which a batch that cannot be divided is on every device."""

    def get_data_layout(self, data_shape: tuple[int, ...]) -> Any:
        if data_shape[0] % self.device_mesh.devices.size:
            return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)
        return super().get_data_layout(data_shape)


@contextmanager
def all_devices(batch_size: int) -> Iterator[int]:
    """Have what is built inside use all devices of JAX, and yield their number.

    Gradients and batch normalisation are those of the whole batch, so the results are those of one
    device, up to rounding. Raises MetaplasticError as `count_devices` does.
    """
    count = count_devices(batch_size)
    with _DataParallel(auto_shard_dataset=False).scope():
        yield count


def count_devices(batch_size: int) -> int:
    """Return the number of JAX's devices.

    Raises MetaplasticError on other backends, and for a batch that cannot be divided.
    """
    if keras.backend.backend() != "jax":
        raise MetaplasticError(
            f"--data-parallel works on JAX, not on {keras.backend.backend()}: set KERAS_BACKEND=jax"
        )
    count = len(keras.distribution.list_devices())
    if batch_size % count:
        raise MetaplasticError(
            f"--data-parallel: a batch of {batch_size} images cannot be divided by {count} devices;"
            " set another one by --batch-size"
        )
    return count


def divisible(split: Split, count: int) -> Split:
    """Return `split` without its last images, fewer than `count`, so that its batches divide."""
    images, labels = split
    kept = len(labels) - len(labels) % count
    return select(images, np.arange(kept)), labels[:kept]
