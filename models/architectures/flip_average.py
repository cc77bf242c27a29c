"""A network's answer averaged with that to the mirror image.

Where a picture's meaning does not depend on left and right, the two answers' errors differ, and
their mean is more often right. It costs nothing in training and a second pass in service.
"""

import keras
from keras import layers, ops


def mirrored(network: keras.Model) -> keras.Model:
    """A network with the weights of `network`, whose logits are the mean over image and mirror.

    Takes the same images (N, height, width, channels) in 0..1 and answers float32 logits.
    """
    image = keras.Input(network.input_shape[1:], name="image")
    # Not image[:, :, ::-1], which PyTorch does not take.
    mirror = ops.take(image, list(range(image.shape[2]))[::-1], axis=2)
    both = [network(image), network(mirror)]
    return keras.Model(
        image, layers.Average(dtype="float32", name="logits")(both), name=network.name
    )
