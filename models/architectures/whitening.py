"""Compute the kernel of a whitening layer from training images.

The covariance of the patches is diagonalised. Each filter is an eigenvector divided by the square
root of its eigenvalue. All filters follow once more with the opposite sign, because ReLU comes
next. A network that starts from decorrelated pixels needs about half the epochs (Jordan, arXiv
2404.00498, section 3.2; Page, "How to train your ResNet 8: bag of tricks", 2019).
"""

import keras
import numpy as np
import numpy.typing as npt

from models.architectures.blocks import WHITENING
from models.data.datasets import Images, scaled

_IMAGES = 5_000  # enough: they have far more patches than the covariance has entries
_FLOOR = 5e-4  # added to each eigenvalue, so that flat directions stay small


def whiten(network: keras.Model, images: Images) -> None:
    """Set the whitening kernel of `network` from uint8 images (N, height, width, channels).

    A network without a whitening layer stays as it is.
    """
    if not any(layer.name == WHITENING for layer in network.layers):
        return
    layer = network.get_layer(WHITENING)
    normalise = network.get_layer("normalisation")
    pixels = keras.ops.convert_to_numpy(normalise(scaled(images[:_IMAGES])))
    layer.set_weights([whitening_kernel(pixels, layer.kernel_size[0])])


def whitening_kernel(pixels: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    """Return filters (size, size, channels, 2 * size * size * channels) that whiten `pixels`.

    `pixels` are normalised images (N, height, width, channels). Over all their patches, the
    outputs of the first half of the filters are uncorrelated and have variance 1, or less in
    directions with little variance. The second half are the negatives of the first.
    """
    channels = pixels.shape[-1]
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (size, size), axis=(1, 2))
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, size * size * channels)
    patches = patches.astype(np.float64)
    values, vectors = np.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / np.sqrt(values + _FLOOR)).reshape(size, size, channels, -1)
    return np.concatenate([filters, -filters], axis=-1).astype(np.float32)
