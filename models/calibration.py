"""How much an image shows: what a network cannot tell, since it answers a blank one too."""

import numpy as np
import numpy.typing as npt


def contrasts(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return each image's contrast (N,), in the images' unit: 0 for one that shows nothing.

    It is the deviation of the pixels from their channel's mean, root mean square over all pixels
    and channels of images (N, height, width, channels).
    """
    n, height, width, channels = images.shape
    exact = images.astype(np.float64).reshape(n, height * width, channels)
    flat = exact.reshape(n, -1)
    squares = np.einsum("ni,ni->n", flat, flat) / (height * width)
    # A product, since a sum over pixels goes by so few channels at a time.
    means = (np.ones((1, height * width)) @ exact)[:, 0] / (height * width)
    variances = (squares - np.einsum("nc,nc->n", means, means)) / channels
    spread: npt.NDArray[np.float64] = np.sqrt(np.maximum(variances, 0))
    return spread
