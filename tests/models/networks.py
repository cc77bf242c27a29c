"""ONNX files as other tools write them, made for a test: a pixel's mean decides the class."""

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

COLOURS = ("red", "green", "blue")
FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8


def colours(
    path: Path,
    *,
    layout: str = "NCHW",
    size: int | str = 16,
    batch: int | str = "n",
    kind: int = FLOAT,
    ends: tuple[str, ...] = (),
    strength: float = 4.0,
    opset: int = 17,
    shape: list[int] | None = None,
) -> Path:
    """A network for COLOURS whose logits are the means of the channels, times `strength`.

    Those of pictures in 0..1 are not all in 0..1, as probabilities would be.

    `ends` are operators behind it: Softmax, Sigmoid, Log. `shape` is a fixed one of its features,
    as tracing leaves it behind.
    """
    image = [3, size, size] if layout == "NCHW" else [size, size, 3]
    entry = helper.make_tensor_value_info("input.1", kind, [batch, *image])
    exit_ = helper.make_tensor_value_info("out", FLOAT, [batch, 3])
    axes = [2, 3] if layout == "NCHW" else [1, 2]
    nodes = [
        helper.make_node("Cast", ["input.1"], ["x"], to=FLOAT),
        helper.make_node("ReduceMean", ["x"], ["means"], axes=axes, keepdims=0),
    ]
    if shape:
        nodes.append(helper.make_node("Reshape", ["means", "shape"], ["features"]))
    nodes.append(helper.make_node("MatMul", ["features" if shape else "means", "w"], ["y"]))
    last = "y"
    for number, end in enumerate(ends):
        nodes.append(helper.make_node(end, [last], [f"y{number}"]))
        last = f"y{number}"
    nodes.append(helper.make_node("Identity", [last], ["out"]))
    stored = [numpy_helper.from_array(strength * np.eye(3, dtype=np.float32), "w")]
    if shape:
        stored.append(numpy_helper.from_array(np.array(shape, np.int64), "shape"))
    return save(path, nodes, [entry], [exit_], stored, opset)


def save(
    path: Path,
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    stored: list[Any],
    opset: int = 17,
) -> Path:
    """Write a network to `path`, whatever it is."""
    graph = helper.make_graph(nodes, "made", inputs, outputs, stored)
    versions = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=8, producer_name="a test")
    path.write_bytes(model.SerializeToString())
    return path


def labels(path: Path, names: tuple[str, ...] = COLOURS) -> Path:
    """A file with a line for each class."""
    path.write_text("\n".join(names) + "\n")
    return path
