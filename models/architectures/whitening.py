"""The kernel of a whitening layer, computed from the training images.

The patches' covariance is diagonalised, and each filter is an eigenvector over the square root of
its eigenvalue, followed by all of them with the other sign, for the ReLU behind. A network that
starts from decorrelated pixels needs about half the epochs (Jordan, arXiv 2404.00498, section 3.2;
Page, "How to train your ResNet 8: bag of tricks", 2019).
"""

import keras
import numpy as np
import numpy.typing as npt

from models.architectures.blocks import WHITENING
from models.data.datasets import Images, scaled

_IMAGES = 5_000  # give far more patches than there are entries in the covariance
_FLOOR = 5e-4  # added to each eigenvalue: nearly constant directions are not blown up


def whiten(network: keras.Model, images: Images) -> None:
    """Set the network's whitening kernel, where it has one, from uint8 training `images`."""
    if not any(layer.name == WHITENING for layer in network.layers):
        return
    layer = network.get_layer(WHITENING)
    normalise = network.get_layer("normalisation")
    pixels = keras.ops.convert_to_numpy(normalise(scaled(images[:_IMAGES])))
    layer.set_weights([whitening_kernel(pixels, layer.kernel_size[0])])


def whitening_kernel(pixels: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    """Filters (size, size, channels, 2 * size * size * channels) for images (N, h, w, channels).

    Over all patches of `pixels`, the answers of the first half are uncorrelated with variance 1
    (less in directions with hardly any variance); the second half are their negatives.
    """
    channels = pixels.shape[-1]
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (size, size), axis=(1, 2))
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, size * size * channels)
    patches = patches.astype(np.float64)
    values, vectors = np.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / np.sqrt(values + _FLOOR)).reshape(size, size, channels, -1)
    return np.concatenate([filters, -filters], axis=-1).astype(np.float32)
