"""What an augmentation takes and returns."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Batch = npt.NDArray[np.float32]  # images (N, height, width, channels), values in 0..1
Rows = npt.NDArray[np.float32]  # one-hot or mixed labels (N, classes)
Each = npt.NDArray[np.float64]  # a value for each image, (N,)

# (images, strength, generator) -> new images of the same shape. Strength 0 changes nothing.
Augmentation = Callable[[Batch, float, np.random.Generator], Batch]
# The same for what changes the labels too: (images, labels, strength, generator) -> both.
Mixture = Callable[[Batch, Rows, float, np.random.Generator], tuple[Batch, Rows]]
