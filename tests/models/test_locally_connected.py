"""A kernel of its own at each place, on whichever backend KERAS_BACKEND names."""

import itertools
import subprocess
import sys

import keras
import numpy as np
import pytest

from models.architectures.blocks import locally_connected
from models.packaging.export import agreement, export, keras_logits
from models.packaging.running import onnx_logits
from models.training.fast_clone import fast_clone

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
BIASES = (False, True) if ON_TENSORFLOW else (True,)


def network(size=3, strides=1, use_bias=True, shape=(6, 7, 2), filters=4):
    """The layer alone, with random weights."""
    image = keras.Input(shape, name="image")
    model = keras.Model(image, locally_connected(image, filters, size, strides, use_bias))
    random = np.random.default_rng(1)
    model.set_weights([random.normal(size=weight.shape) for weight in model.weights])
    return model


def made_images(n=3, shape=(6, 7, 2)):
    return np.random.default_rng(2).normal(size=(n, *shape)).astype(np.float32)


def plain_loop(images, kernel, bias, size, strides):
    """The same by its definition, place by place."""
    places_y, places_x, _, filters = kernel.shape
    outputs = np.zeros((len(images), places_y, places_x, filters))
    for n, y, x, f in itertools.product(*map(range, outputs.shape)):
        top, left = y * strides, x * strides
        patch = images[n, top : top + size, left : left + size]
        outputs[n, y, x, f] = (patch.ravel() * kernel[y, x, :, f]).sum() + bias[y, x, f]
    return outputs


@pytest.mark.parametrize(
    ("size", "strides", "places"),
    [(3, 1, (4, 5)), (3, 2, (2, 3)), (2, 3, (2, 2)), (1, 1, (6, 7)), (1, 2, (3, 4))],
)
@pytest.mark.parametrize("use_bias", BIASES)
def test_it_answers_as_a_plain_loop(size, strides, places, use_bias):
    model = network(size, strides, use_bias)
    kernel, *biases = model.get_weights()
    assert kernel.shape == (*places, size * size * 2, 4)
    assert [bias.shape for bias in biases] == [(*places, 4)] * use_bias
    bias = biases[0] if use_bias else np.zeros((*places, 4))
    expected = plain_loop(made_images(), kernel, bias, size, strides)
    found = model.predict(made_images(), verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strides", [1, 2])
def test_its_gradient_is_that_of_finite_differences(strides):
    """A squared error is quadratic in the weights: central differences are exact."""
    model = network(strides=strides, shape=(5, 5, 1), filters=2)
    images, start = made_images(2, (5, 5, 1)), model.get_weights()
    targets = np.random.default_rng(3).normal(size=(2, *model.output.shape[1:])).astype(np.float32)

    def loss(weights):
        kernel, bias = (weight.astype(np.float64) for weight in weights)
        return ((plain_loop(images, kernel, bias, 3, strides) - targets) ** 2).mean()

    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.train_on_batch(images, targets)
    for which, stepped in enumerate(model.get_weights()):
        gradient = np.zeros(stepped.shape)
        for place in np.ndindex(stepped.shape):
            above, below = ([weight.copy() for weight in start] for _ in range(2))
            above[which][place] += 0.5
            below[which][place] -= 0.5
            gradient[place] = loss(above) - loss(below)
        np.testing.assert_allclose(start[which] - stepped, gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("use_bias", [False, True])
def test_the_clone_that_is_trained_has_the_same_weights_and_answers(use_bias):
    model = network(strides=2, use_bias=use_bias)
    image = keras.Input((6, 7, 2), name="image")
    normalised = keras.layers.Rescaling(1.0, name="normalisation")(image)
    flat = keras.layers.Flatten()(locally_connected(normalised, 4, 3, 2, use_bias))
    whole = keras.Model(image, keras.layers.Dense(3, name="q")(flat))
    whole.set_weights([*model.get_weights(), *whole.get_weights()[len(model.weights) :]])
    clone = fast_clone(whole, "float32")
    for weight, cloned in zip(whole.get_weights(), clone.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, cloned)
    np.testing.assert_allclose(
        clone.predict(made_images(), verbose=0), whole.predict(made_images(), verbose=0), atol=1e-4
    )


@pytest.mark.slow
def test_a_saved_network_needs_keras_alone(tmp_path):
    network(strides=2).save(tmp_path / "model.keras")
    script = (
        "import sys, keras, numpy; model = keras.saving.load_model(sys.argv[1]);"
        "print(model.predict(numpy.zeros((1, 6, 7, 2)), verbose=0).shape)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "model.keras")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "(1, 2, 3, 4)"


@pytest.mark.skipif(not ON_TENSORFLOW, reason="exports need TensorFlow")
def test_its_onnx_file_agrees(tmp_path):
    image = keras.Input((6, 7, 2), name="image")
    flat = keras.layers.Flatten()(locally_connected(image, 4, 3, 2))
    keras.Model(image, keras.layers.Dense(3)(flat)).save(tmp_path / "model.keras")
    export(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (64, 6, 7, 2), dtype=np.uint8)
    agreement(keras_logits(tmp_path, images), onnx_logits(tmp_path, images)).check()
