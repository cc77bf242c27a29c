"""The network that averages over an image and its mirror image."""

import keras
import numpy as np
import onnx
import pytest

from models.architectures import build
from models.architectures.flip_average import flip_average, network_of
from models.packaging.export import agreement, export, keras_logits
from models.packaging.running import onnx_logits


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


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports need TensorFlow")
def test_an_export_passes_an_image_and_its_mirror_image_through_the_network_at_once(tmp_path):
    network = build("lenet", (28, 28, 1), 10, (0.3,), (0.2,), kernels=(4, 6), dense=(12,))
    flip_average(network).save(tmp_path / "model.keras")
    export(tmp_path)
    images = np.random.default_rng(3).integers(0, 256, (7, 28, 28, 1), dtype=np.uint8)
    agreement(keras_logits(tmp_path, images), onnx_logits(tmp_path, images)).check()
    for image in images:  # what one image is answered does not depend on others
        alone = onnx_logits(tmp_path, image[None])
        np.testing.assert_allclose(alone, keras_logits(tmp_path, image[None]), atol=1e-5)
    kinds = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert kinds.count("Conv") == 2  # and not two for each of both passes


def test_only_what_averages_over_mirror_images_is_taken_for_it():
    network = build("lenet", (28, 28, 1), 10, (0.3,), (0.2,), kernels=(4, 6), dense=(12,))
    assert network_of(flip_average(network)) is network
    assert network_of(network) is None
    image = keras.Input((28, 28, 1))
    shifted = keras.ops.take(image, [*range(1, 28), 0], axis=2)
    answers = [network(image), network(shifted)]
    assert network_of(keras.Model(image, keras.layers.Average()(answers))) is None
    turned = keras.ops.take(image, list(range(28))[::-1], axis=1)
    answers = [network(image), network(turned)]
    assert network_of(keras.Model(image, keras.layers.Average()(answers))) is None
