"""Half precision in both model files: the same values, the same answers, half the bytes."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers

from models.packaging.export import ExportError, agreement, export, keras_logits
from models.packaging.half_precision import compact_keras, kernels, round_weights
from models.packaging.running import onnx_logits

IMAGES = np.random.default_rng(0).integers(0, 256, (200, 16, 16, 3), dtype=np.uint8)


def small_network():
    """Every kind of kernel that we use, with batch normalisation that is not the identity."""
    keras.utils.set_random_seed(5)
    inputs = keras.Input((16, 16, 3), name="image")
    x = layers.Rescaling([1.0, 2.0, 3.0], offset=[0.0, 1.0, 2.0])(inputs)
    x = layers.Conv2D(32, 3, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, strides=2, padding="same")(x)
    x = layers.ReLU()(layers.BatchNormalization(scale=False)(x))
    y = layers.BatchNormalization(center=False)(layers.Conv2D(32, 3, padding="same")(x))
    x = layers.Flatten()(layers.MaxPooling2D()(layers.Add()([x, y])))
    x = layers.BatchNormalization()(layers.Dense(64, use_bias=False)(x))
    inner = keras.Sequential(
        [keras.Input((64,)), layers.Dense(24, activation="relu")], name="inner"
    )
    network = keras.Model(inputs, layers.Dense(10)(inner(x)))
    random = np.random.default_rng(1)
    for weight in network.weights:
        if len(weight.shape) == 1:
            weight.assign(random.uniform(0.3, 1.5, weight.shape))
    return network


def values(weights):
    return [keras.ops.convert_to_numpy(weight) for weight in weights]


def constants(folder):
    graph = onnx.load(folder / "model.onnx").graph
    return {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}


@pytest.fixture(scope="module")
def rounded(tmp_path_factory):
    """The folder of a rounded network: a compact `model.keras` and its export."""
    folder = tmp_path_factory.mktemp("rounded")
    network = small_network()
    round_weights(network)
    network.save(folder / "model.keras")
    compact_keras(folder / "model.keras")
    export(folder)
    return folder


def test_kernels_become_their_nearest_half_precision_values_and_all_else_stays():
    network, exact = small_network(), small_network()
    round_weights(network)
    for weight, before in zip(network.weights, values(exact.weights), strict=True):
        (after,) = values([weight])
        if len(weight.shape) > 1:
            assert after.dtype == np.float32
            np.testing.assert_array_equal(after, before.astype(np.float16))
            assert not np.array_equal(after, before)
        else:
            np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("size", [1e-6, 1e5, float("nan")])
def test_a_kernel_beyond_half_precision_is_left_as_it_is(size):
    network = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    kernel = np.linspace(-size, size, 12, dtype=np.float32).reshape(4, 3)
    network.weights[0].assign(kernel)
    round_weights(network)
    np.testing.assert_array_equal(values(network.weights)[0], kernel)


def test_a_compact_keras_file_is_half_as_large_and_loads_to_the_same_weights(tmp_path):
    path = tmp_path / "model.keras"
    network = small_network()
    round_weights(network)
    network.save(path)
    plain = path.read_bytes()
    compact_keras(path)
    assert path.stat().st_size < 0.55 * len(plain)
    loaded = keras.saving.load_model(path)
    for after, before in zip(values(loaded.weights), values(network.weights), strict=True):
        np.testing.assert_array_equal(after, before)
    packed = path.read_bytes()
    path.write_bytes(plain)
    compact_keras(path)
    assert path.read_bytes() == packed
    assert list(tmp_path.iterdir()) == [path]


def test_the_onnx_file_holds_keras_own_kernels_in_half_precision(rounded):
    network = keras.saving.load_model(rounded / "model.keras")
    stored = constants(rounded)
    for kernel in kernels(network):
        half = stored[f"{kernel.path.replace('/', '_')}_half"]
        assert half.dtype == np.float16
        np.testing.assert_array_equal(half, keras.ops.convert_to_numpy(kernel))
    parameters = network.count_params()
    assert (rounded / "model.onnx").stat().st_size < 2 * parameters + 20_000
    (image,) = onnx.load(rounded / "model.onnx").graph.input
    assert image.name == "image"


def test_both_files_of_a_rounded_network_agree(rounded):
    agreement(keras_logits(rounded, IMAGES), onnx_logits(rounded, IMAGES)).check()


def test_onnx_runtime_leaves_neither_half_precision_nor_batch_normalisation(rounded, tmp_path):
    """What the file saves costs no time: it is all multiplied out when the session opens."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3  # of the file being fit for this kind of processor alone
    onnxruntime.InferenceSession(rounded / "model.onnx", options)
    kinds = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert sum(kind in ("Conv", "FusedConv") for kind in kinds) == 3
    assert kinds.count("Mul") <= 2  # the normalisation of the image, and of the dense layer
    assert np.float16 not in {array.dtype.type for array in constants(tmp_path).values()}


def test_a_network_that_was_not_rounded_is_exported_as_it_is(tmp_path):
    small_network().save(tmp_path / "model.keras")
    export(tmp_path)
    assert np.float16 not in {array.dtype.type for array in constants(tmp_path).values()}
    agreement(keras_logits(tmp_path, IMAGES), onnx_logits(tmp_path, IMAGES)).check()


def test_a_network_that_onnx_cannot_say_is_refused_and_the_old_export_stays(tmp_path):
    inputs = keras.Input((16, 16, 4))
    grouped = layers.Conv2D(8, 3, groups=2)(inputs)
    keras.Model(inputs, layers.Flatten()(grouped)).save(tmp_path / "model.keras")
    (tmp_path / "model.onnx").write_bytes(b"old")
    with pytest.raises(ExportError, match="cannot be exported to ONNX"):
        export(tmp_path)
    assert (tmp_path / "model.onnx").read_bytes() == b"old"


def test_a_training_leaves_a_rounded_network_in_compact_files(runs):
    folder = runs["metaplastic"]
    network = keras.saving.load_model(folder / "model.keras")
    for kernel in values(kernels(network)):
        np.testing.assert_array_equal(kernel, kernel.astype(np.float16))
    bytes_as_float32 = 4 * network.count_params()
    for name in ("model.keras", "model.onnx"):
        assert (folder / name).stat().st_size < 0.55 * bytes_as_float32
