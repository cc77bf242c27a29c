"""The network that averages over an image and its mirror image."""

import keras
import numpy as np

from models.architectures import build
from models.architectures.flip_average import flip_average


def test_an_image_and_its_mirror_image_get_the_mean_of_the_networks_answers(tmp_path):
    network = build("lenet", (28, 28, 1), 10, (0.3,), (0.2,), kernels=(4, 6), dense=(12,))
    both = flip_average(network)
    images = np.random.default_rng(3).random((5, 28, 28, 1), np.float32)
    expected = (
        network.predict(images, verbose=0) + network.predict(images[:, :, ::-1], verbose=0)
    ) / 2
    found = both.predict(images, verbose=0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(both.predict(images[:, :, ::-1], verbose=0), found, atol=1e-6)
    assert both.count_params() == network.count_params()
    both.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), found)
