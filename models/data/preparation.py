"""Prepare batches ahead of the training: augmentation beside the network's own work.

Augmentation calls many short numpy operations, each of which takes Python's lock. Eight threads
that prepared batches for a GPU took six times the processor time of one. So processes do it where
there are cores for them. With two cores, one thread is as fast and starts at once.
"""

import functools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from models.data.augmentation import augment
from models.data.augmentation.types import Batch, Rows

CORES = os.cpu_count() or 1
WORKERS = max(1, min(8, CORES - 1))  # one core is left for the training itself

# Images, labels, and the generator for everything else that is random in the batch.
Prepared = tuple[Batch, Rows, np.random.Generator]


def prepared(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    classes: int,
    augmentations: Mapping[str, float],
    seed: tuple[int, int, int],
) -> Prepared:
    """Return augmented images (N, height, width, channels) in 0..1 and label rows (N, classes)."""
    random = np.random.default_rng(seed)
    pixels = images.astype(np.float32) / np.float32(255)
    return *augment(pixels, one_hot(labels, classes), augmentations, random), random


def one_hot(labels: npt.NDArray[np.int64], classes: int) -> Rows:
    """Return labels (N,) as float32 rows (N, classes) with a single 1."""
    return np.eye(classes, dtype=np.float32)[labels]


@functools.cache
def workers() -> Executor:
    """Return the threads or processes that prepare batches. They start with the first batch."""
    if WORKERS == 1:
        return ThreadPoolExecutor(1, thread_name_prefix="batch")
    # Not forked, because PyTorch's and JAX's threads would be missing in a copy of this process.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(WORKERS, mp_context=context, initializer=_follow_the_training)


def _follow_the_training() -> None:
    """Leave Ctrl-C to the training, which ends its workers, and end when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_training, daemon=True).start()


def _end_with_the_training() -> None:
    training = multiprocessing.parent_process()
    if training is not None:
        multiprocessing.connection.wait([training.sentinel])
        os._exit(1)
