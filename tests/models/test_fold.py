"""Batch normalisation folded into the convolutions before it: fewer nodes, the same answers."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers
from onnx import TensorProto, helper, numpy_helper

from models.architectures.blocks import convolution
from models.architectures.googlenet import inception
from models.packaging.export import agreement, export, keras_logits
from models.packaging.fold import fold_batch_normalisation
from models.packaging.running import onnx_logits

RANDOM = np.random.default_rng(4)
PICTURES = RANDOM.normal(size=(3, 2, 8, 8)).astype(np.float32)
MARGIN = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}


def model(*nodes, scale=(0.5, 2.0, 1.5, 0.1), **kernels):
    """An ONNX model of (kind, inputs, output, attributes), from `pictures` to `answer`.

    `scale` and `offset` are there for its four channels, and whatever kernels are named.
    """
    constants = {
        "scale": np.array(scale, np.float32).reshape(1, -1, 1, 1),
        "offset": np.array([0.3, -1.0, 0.2, 2.0], np.float32).reshape(1, -1, 1, 1),
        **{name: RANDOM.normal(size=shape).astype(np.float32) for name, shape in kernels.items()},
    }
    graph = helper.make_graph(
        [helper.make_node(kind, ins, [out], **more) for kind, ins, out, more in nodes],
        "made",
        [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["N", 2, 8, 8])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


def normalised(tensor, answer="answer"):
    return (
        ("Mul", [tensor, "scale"], f"{tensor}_scaled", {}),
        ("Add", [f"{tensor}_scaled", "offset"], answer, {}),
    )


def convolved(answer="maps", kernel="kernel", bias=()):
    return ("Conv", ["pictures", kernel, *bias], answer, MARGIN)


def answers(network, **inputs):
    session = onnxruntime.InferenceSession(network.SerializeToString())
    return session.run(None, inputs or {"pictures": PICTURES})[0]


def folded(network):
    """The nodes' kinds behind the first convolution's kernel, once `network` is folded.

    Fails unless it answers as before.
    """
    before = answers(network)
    fold_batch_normalisation(network)
    onnx.checker.check_model(network, full_check=True)
    np.testing.assert_allclose(answers(network), before, atol=1e-5)
    made = {
        name for node in network.graph.node if "_kernel" in node.output[0] for name in node.output
    }
    return [node.op_type for node in network.graph.node if node.output[0] not in made]


MAX = ("MaxPool", ["maps"], "pooled", {"kernel_shape": [2, 2], "strides": [2, 2]})
MEAN = ("AveragePool", ["maps"], "pooled", MARGIN)
MEAN_WITH_MARGIN = ("AveragePool", ["maps"], "pooled", {**MARGIN, "count_include_pad": 1})
ALL = ("GlobalMaxPool", ["maps"], "pooled", {})
KERNEL = {"kernel": (4, 2, 3, 3)}


@pytest.mark.parametrize("pool", [MAX, MEAN, ALL], ids=lambda pool: pool[0])
def test_normalisation_behind_a_pool_goes_into_the_convolution(pool):
    network = model(convolved(), pool, *normalised("pooled"), **KERNEL)
    assert folded(network) == ["Conv", pool[0]]


def test_a_bias_is_scaled_as_well():
    kernels = {**KERNEL, "bias": (4,)}
    network = model(convolved(bias=["bias"]), MAX, *normalised("pooled"), **kernels)
    assert folded(network) == ["Conv", "MaxPool"]


def test_normalisation_behind_a_join_goes_into_each_of_its_convolutions():
    network = model(
        convolved("left", "narrow"),
        convolved("right", "wide"),
        ("MaxPool", ["right"], "pooled", {**MARGIN}),
        ("Concat", ["left", "pooled"], "joined", {"axis": 1}),
        *normalised("joined", "normal"),
        ("Relu", ["normal"], "answer", {}),
        narrow=(1, 2, 3, 3),
        wide=(3, 2, 3, 3),
    )
    assert folded(network) == ["Conv", "Relu", "Conv", "Relu", "MaxPool", "Concat"]


def test_a_negative_scale_behind_a_max_pool_stays_where_it_is():
    network = model(convolved(), MAX, *normalised("pooled"), scale=(1, 1, -0.5, 1), **KERNEL)
    assert folded(network) == ["Conv", "MaxPool", "Mul", "Add"]


def test_a_negative_scale_behind_a_mean_goes_into_the_convolution():
    network = model(convolved(), MEAN, *normalised("pooled"), scale=(1, 1, -0.5, 1), **KERNEL)
    assert folded(network) == ["Conv", "AveragePool"]


def test_behind_relu_the_scale_goes_into_the_convolution_and_the_offset_behind_the_pool():
    network = model(
        convolved(),
        ("Relu", ["maps"], "positive", {}),
        *normalised("positive", "normal"),
        ("MaxPool", ["normal"], "answer", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        **KERNEL,
    )
    assert folded(network) == ["Conv", "Relu", "MaxPool", "Add"]


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param((convolved(), MEAN_WITH_MARGIN, *normalised("pooled")), id="zeros in a mean"),
        pytest.param(
            (
                convolved(),
                MAX,
                *normalised("pooled", "normal"),
                ("GlobalMaxPool", ["maps"], "most", {}),
                ("Add", ["normal", "most"], "answer", {}),
            ),
            id="maps that something else reads",
        ),
        pytest.param((convolved(), ("Abs", ["maps"], "a", {}), *normalised("a")), id="other node"),
    ],
)
def test_where_it_would_change_the_answer_nothing_is_folded(nodes):
    network = model(*nodes, **KERNEL)
    assert folded(network) == [kind for kind, *_ in nodes]


def test_an_exported_network_is_left_without_normalisation_and_agrees_with_keras(tmp_path):
    """Pools, inception modules and ReLU before normalisation, as our architectures have them."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((16, 16, 3), name="image")
    x = inception(convolution(inputs, 16, pool=True), 16, 16, 16, 16, 16, 16)
    x = layers.BatchNormalization()(layers.ReLU()(layers.Conv2D(16, 3)(x)))
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D()(x))
    network = keras.Model(inputs, layers.Dense(5)(x))
    for weight in network.weights:
        if len(weight.shape) == 1:
            weight.assign(RANDOM.uniform(0.3, 1.5, weight.shape))
    network.save(tmp_path / "model.keras")
    export(tmp_path)
    images = RANDOM.integers(0, 256, (50, 16, 16, 3), dtype=np.uint8)
    agreement(keras_logits(tmp_path, images), onnx_logits(tmp_path, images)).check()
    graph = onnx.load(tmp_path / "model.onnx").graph
    kernels = {name for node in graph.node if node.op_type == "Conv" for name in node.input[1:]}
    by_kind = [node.op_type for node in graph.node if node.output[0] not in kernels]
    assert by_kind.count("Mul") == 0
    assert by_kind.count("Add") == 2  # behind ReLU, and the dense layer's bias


def image_model(order, made, constant, **shape):
    """An image of two channels, last, that is normalised, put in `order`, and squared."""
    constants = {"mean": np.array(constant, np.float32), "deviation": np.float32(constant) + 1}
    constants |= {name: np.array(values, np.int64) for name, values in shape.items()}
    nodes = (
        ("Mul", ["deviation", "image"], "scaled", {}),
        ("Add", ["scaled", "mean"], "normal", {}),
        order,
        ("Mul", [made, made], "answer", {}),
    )
    graph = helper.make_graph(
        [helper.make_node(kind, ins, [out], **more) for kind, ins, out, more in nodes],
        "made",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 5, 4, len(constant)])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


FIRST = ("Transpose", ["normal"], "planes", {"perm": [0, 3, 1, 2]})
OTHERWISE = ("Transpose", ["normal"], "planes", {"perm": [0, 1, 3, 2]})
RESHAPED = ("Reshape", ["normal", "shape"], "planes", {})


@pytest.mark.parametrize(
    ("order", "constant", "kinds"),
    [
        (FIRST, (0.5, -0.25), ["Transpose", "Mul", "Add", "Mul"]),
        (RESHAPED, (0.5,), ["Reshape", "Mul", "Add", "Mul"]),
        (OTHERWISE, (0.5, -0.25), ["Mul", "Add", "Transpose", "Mul"]),
        (RESHAPED, (0.5, -0.25), ["Mul", "Add", "Reshape", "Mul"]),
    ],
    ids=["channels first", "one channel", "another order", "two channels in another shape"],
)
def test_an_image_is_normalised_behind_the_node_that_puts_its_channels_first(
    order, constant, kinds
):
    network = image_model(order, "planes", constant, shape=[-1, len(constant), 5, 4])
    image = RANDOM.normal(size=(3, 5, 4, len(constant))).astype(np.float32)
    before = answers(network, image=image)
    fold_batch_normalisation(network)
    onnx.checker.check_model(network, full_check=True)
    assert [node.op_type for node in network.graph.node] == kinds
    np.testing.assert_array_equal(answers(network, image=image), before)


def test_a_shape_that_the_file_tells_is_not_computed_for_each_image():
    nodes = (
        ("Shape", ["pictures"], "sizes", {}),
        ("Gather", ["sizes", "first"], "images", {}),
        ("Concat", ["images", "rest"], "shape", {"axis": 0}),
        ("Reshape", ["pictures", "shape"], "flat", {}),
        ("Relu", ["flat"], "answer", {}),
    )
    network = model(*nodes)
    for name, value in {"first": [0], "rest": [128]}.items():
        network.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    network = onnx.shape_inference.infer_shapes(network, data_prop=True)
    assert folded(network) == ["Reshape", "Relu"]
