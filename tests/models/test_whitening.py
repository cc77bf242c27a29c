"""The whitening layer: fixed, made of the training images, and what its name says."""

import keras
import numpy as np
import pytest

from models.architectures import build
from models.architectures.blocks import WHITENING
from models.architectures.whitening import whiten, whitening_kernel


def smooth_images(n, side, channels):
    """Neighbouring pixels are alike, as in pictures."""
    random = np.random.default_rng(5)
    coarse = random.integers(0, 200, (n, side // 4, side // 4, channels))
    images = coarse.repeat(4, axis=1).repeat(4, axis=2) + random.integers(
        0, 56, (n, side, side, channels)
    )
    return images.astype(np.uint8)


@pytest.mark.parametrize(("size", "channels"), [(2, 3), (3, 1)])
def test_the_answers_to_real_patches_are_uncorrelated_with_variance_1(size, channels):
    images = smooth_images(50, 16, channels).astype(np.float32) / 255
    pixels = (images - images.mean()) / images.std()
    kernel = whitening_kernel(pixels, size)
    filters = size * size * channels
    assert kernel.shape == (size, size, channels, 2 * filters)
    convolve = keras.layers.Conv2D(2 * filters, size, use_bias=False)
    convolve.build(pixels.shape)
    convolve.set_weights([kernel])
    answers = keras.ops.convert_to_numpy(convolve(pixels)).reshape(-1, 2 * filters)
    first, second = answers[:, :filters], answers[:, filters:]
    np.testing.assert_allclose(first, -second, atol=1e-5)
    np.testing.assert_allclose(first.T @ first / len(first), np.eye(filters), atol=0.05)


def test_a_network_gets_its_kernel_from_the_images_that_it_is_trained_on():
    network = build("vgg", (32, 32, 3), 10, (0.4,) * 3, (0.2,) * 3, width=4)
    layer = network.get_layer(WHITENING)
    before = [weight.copy() for weight in network.get_weights()]
    whiten(network, smooth_images(20, 32, 3))
    changed = [
        not np.array_equal(old, new) for old, new in zip(before, network.get_weights(), strict=True)
    ]
    assert changed == [weight is layer.weights[0] for weight in network.weights]
    assert layer.trainable_weights == []


def test_a_network_without_a_whitening_layer_stays_as_it_is():
    network = build("lenet", (28, 28, 1), 10, (0.5,), (0.25,))
    before = [weight.copy() for weight in network.get_weights()]
    whiten(network, smooth_images(5, 28, 1))
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
