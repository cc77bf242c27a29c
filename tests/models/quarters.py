"""Small pictures of four classes, and a small network that knows them: fast to learn."""

import keras
import numpy as np
from keras import layers

from models.architectures.registry import normalised_input

SIDE, CLASSES = 6, 4


def pictures(count, seed, pale=False):
    """Pictures of four classes: which quarter is bright. Pale ones have little contrast."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, CLASSES, count)
    images = random.integers(0, 80, (count, SIDE, SIDE, 1)).astype(np.uint8)
    half = SIDE // 2
    for image, number in zip(images, classes, strict=True):
        top, left = divmod(int(number), 2)
        image[top * half : (top + 1) * half, left * half : (left + 1) * half] += 150
    return (120 + images // 4 if pale else images), classes


def small_network():
    """A small network with batch normalisation that knows the pictures, but not pale ones."""
    keras.utils.set_random_seed(1)
    image, x = normalised_input((SIDE, SIDE, 1), (0.3,), (0.3,))
    x = layers.Conv2D(8, 3, activation="relu", name="conv")(x)
    x = layers.Flatten()(layers.BatchNormalization()(x))
    x = layers.Dense(32, activation="relu")(x)
    network = keras.Model(image, layers.Dense(CLASSES, name="logits")(x))
    random = np.random.default_rng(0)  # not the backend's: it shall be the same network on each
    for variable in network.trainable_variables:
        if len(variable.shape) > 1:
            deviation = np.sqrt(2 / np.prod(variable.shape[:-1]))
            variable.assign(deviation * random.standard_normal(variable.shape))
    network.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(True))
    images, classes = pictures(600, seed=2)
    network.fit(images / np.float32(255), classes, epochs=6, verbose=0)
    return network


def accuracy(network, images, classes):
    return float(
        (network.predict_on_batch(images / np.float32(255)).argmax(axis=1) == classes).mean()
    )
