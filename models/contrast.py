"""How much an image shows: what a network cannot tell, since it answers a blank one too."""

import numpy as np
import numpy.typing as npt


def contrasts(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return each image's contrast (N,), in the images' unit: 0 for one that shows nothing.

    It is the deviation of the pixels from their channel's mean, root mean square over all pixels
    and channels of images (N, height, width, channels).
    """
    n, height, width, channels = images.shape
    pixels = images.reshape(n, height * width, channels)
    off = pixels - np.add.reduce(pixels, axis=1, keepdims=True) / np.float32(height * width)
    squares: npt.NDArray[np.float32] = np.einsum("npc,npc->n", off, off)
    spread: npt.NDArray[np.float32] = np.sqrt(squares / np.float32(height * width * channels))
    return spread
