"""The network as it is trained: another layout, the same network. Runs on the backend at hand."""

import keras
import numpy as np
import pytest

from models.architectures import ARCHITECTURES, build
from models.training.fast_clone import fast_clone

ON_TORCH = keras.backend.backend() == "torch"
# Elsewhere the clone is the network but for its precision.
TRIED = tuple(ARCHITECTURES) if ON_TORCH else ("lenet", "vgg")


def small(architecture):
    return build(architecture, (28, 28, 1), 10, (0.3,), (0.2,), **SMALL.get(architecture, {}))


SMALL = {
    "alexnet": {"kernels": (4, 6, 8, 8, 6)},
    "conv": {"maps": 4, "hidden": 12, "dropout": 0, "he": True},
    "deep": {"blocks": ((2, 4, 0), (1, 6, 0)), "hidden": 12, "dropout": 0, "he": True},
    "dense": {"widths": (16, 12), "he": True},
    "googlenet": {"width": 0.125},
    "lenet": {"kernels": (4, 6), "dense": (12,)},
    "loccon": {"maps": 4, "hidden": 12, "dropout": 0, "he": True},
    "vgg": {"width": 4},
}


def made_batch(n=16):
    random = np.random.default_rng(2)
    images = random.random((n, 28, 28, 1), np.float32)
    return images, np.eye(10, dtype=np.float32)[random.integers(0, 10, n)]


def trained_steps(model, steps):
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    images, labels = made_batch()
    return [float(model.train_on_batch(images, labels)) for _ in range(steps)]


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("mixed_bfloat16", 0.1)])
@pytest.mark.parametrize("architecture", TRIED)
def test_the_clone_answers_and_learns_as_the_network_itself(architecture, precision, tolerance):
    keras.utils.set_random_seed(2)  # no pool's maximum is decided by a rounding error
    network = small(architecture)
    clone = fast_clone(network, precision)
    images, _ = made_batch()
    np.testing.assert_allclose(
        clone.predict(images, verbose=0), network.predict(images, verbose=0), atol=tolerance
    )
    expected, found = trained_steps(network, 4), trained_steps(clone, 4)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    assert found[-1] < found[0]


@pytest.mark.parametrize("architecture", TRIED)
def test_the_logits_stay_float32_in_mixed_precision(architecture):
    clone = fast_clone(small(architecture), "mixed_bfloat16")
    from_maps = [layer for layer in clone.layers if isinstance(layer, keras.layers.Dense)][-1]
    assert from_maps.compute_dtype == clone.layers[-1].compute_dtype == "float32"
    assert clone.layers[2].compute_dtype == "bfloat16"


@pytest.mark.parametrize("architecture", TRIED)
def test_what_the_clone_has_learned_fits_the_plain_network(architecture):
    network = small(architecture)
    clone = fast_clone(network, "float32")
    trained_steps(clone, 3)
    network.set_weights(clone.get_weights())
    images, _ = made_batch()
    np.testing.assert_allclose(
        network.predict(images, verbose=0), clone.predict(images, verbose=0), atol=1e-5
    )
    assert {layer.__module__.partition(".")[0] for layer in network.layers} == {"keras"}


@pytest.mark.skipif(not ON_TORCH, reason="the layout differs on PyTorch alone")
def test_on_pytorch_every_map_is_channels_first_in_channels_last_memory():
    clone = fast_clone(small("googlenet"), "float32")
    images, _ = made_batch()
    maps = keras.Model(clone.input, [layer.output for layer in clone.layers[1:-3]])(images)
    import torch

    for layer, tensor in zip(clone.layers[1:], maps, strict=False):
        if tensor.ndim == 4:
            assert tensor.is_contiguous(memory_format=torch.channels_last), layer.name


@pytest.mark.skipif(not ON_TORCH, reason="the layout differs on PyTorch alone")
def test_fused_batch_normalisation_moves_its_statistics_as_keras_does():
    network = small("vgg")
    clone = fast_clone(network, "float32")
    for model in (network, clone):
        trained_steps(model, 5)
    for plain, fused in zip(network.weights, clone.weights, strict=True):
        if plain.name.startswith("moving"):
            np.testing.assert_allclose(
                *(keras.ops.convert_to_numpy(w) for w in (fused, plain)), rtol=0.02, atol=1e-4
            )


def test_a_recipes_momentum_is_that_of_the_clones_averages():
    network = small("lenet")
    slow, fast = (fast_clone(network, "float32", momentum) for momentum in (0.99, 0.9))
    for clone in (slow, fast):
        trained_steps(clone, 1)
    (slow_mean, *_), (fast_mean, *_) = (clone.non_trainable_variables for clone in (slow, fast))
    assert "moving_mean" in slow_mean.path
    np.testing.assert_allclose(fast_mean, 10 * np.asarray(slow_mean), rtol=1e-4)
