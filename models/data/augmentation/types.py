"""The types of arguments and results of an augmentation."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Batch = npt.NDArray[np.float32]  # images (N, height, width, channels), values in 0..1
Rows = npt.NDArray[np.float32]  # one-hot or mixed labels (N, classes)
Each = npt.NDArray[np.float64]  # one value for each image, (N,)

# (images, strength, generator) -> new images of the same shape. A strength of 0 changes nothing.
Augmentation = Callable[[Batch, float, np.random.Generator], Batch]
# (images, labels, strength, generator) -> new images and labels.
Mixture = Callable[[Batch, Rows, float, np.random.Generator], tuple[Batch, Rows]]
