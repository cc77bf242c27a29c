"""Average a network's logits over an image and its mirror image.

Where left and right do not change what a picture shows, the errors of the two outputs differ, and
their mean is right more often. Training costs the same. Inference costs twice as much.
"""

import keras
from keras import layers, ops


def flip_average(network: keras.Model) -> keras.Model:
    """Return a network with the weights of `network` whose logits are the mean of two passes.

    One pass sees the image, the other one its mirror image. The input is that of `network`: images
    (N, height, width, channels) in 0..1. The output is float32 logits (N, classes).
    """
    image = keras.Input(network.input_shape[1:], name="image")
    # PyTorch does not support the negative step of image[:, :, ::-1].
    flipped = ops.take(image, list(range(image.shape[2]))[::-1], axis=2)
    both = [network(image), network(flipped)]
    return keras.Model(
        image, layers.Average(dtype="float32", name="logits")(both), name=network.name
    )
