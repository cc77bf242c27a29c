"""Wrap a network from elsewhere, so that it takes and gives what our networks do.

Our networks take float32 (N, height, width, channels) in 0..1, and give logits (N, classes). An
imported one gets nodes in front and behind. For a pixel in 0..255 it receives

    (scale * pixel - mean) / std         or the pixel itself where it takes uint8

in its own layout and type. Where it gives probabilities p, log(p) are logits, since softmax(log(p))
is p again.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.packaging.foreign import TYPES, ForeignError, Taken, names_in, opset_of

LEAST_OPSET_OF_SCAN = 9
Outputs = Literal["logits", "probabilities"]

# Added to probabilities, so that a 0 has a logarithm. It is too small to change any other.
_LEAST_PROBABILITY = 1e-30


@dataclass(frozen=True)
class Scaling:
    """What becomes of a pixel from 0 to 255: (scale * pixel - mean) / std, for each channel."""

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


def wrap(
    model: onnx.ModelProto,
    taken: Taken,
    scaling: Scaling | None,
    outputs: Outputs,
    classes: int,
    *,
    singly: bool = False,
) -> onnx.ModelProto:
    """Return `model` with nodes in front and behind, so that it is as the service expects it.

    `scaling` is None for a network that takes uint8. With `singly`, the network is run on one image
    after the other (the operator Scan), whatever number of images it was exported for; without, it
    is told that their number is open.
    """
    if singly and opset_of(model) < LEAST_OPSET_OF_SCAN:
        raise ForeignError(
            f"it takes {taken.batch} images at once and no other number, and opset "
            f"{opset_of(model)} has no way around that; export it for any number of images"
        )
    build = _Builder(_unused_prefix(model))
    pictures = build.name("pixels")
    given = _before(build, pictures, taken, scaling)
    graph = model.graph
    (entry,) = (i for i in graph.input if i.name not in {t.name for t in graph.initializer})
    (exit_,) = graph.output
    if singly:
        answers = _one_by_one(build, graph, entry, exit_, given, taken, classes)
    else:
        build.add("Identity", [given], entry.name)
        build.nodes += graph.node
        answers = build.add("Flatten", [exit_.name], axis=1)
    logits = build.add("Cast", [answers], to=TensorProto.FLOAT)
    if outputs == "probabilities":
        positive = build.add(
            "Add", [build.add("Relu", [logits]), build.constant([_LEAST_PROBABILITY])]
        )
        logits = build.add("Log", [positive])
    image = (taken.height, taken.width, taken.channels)
    first = helper.make_tensor_value_info(pictures, TensorProto.FLOAT, ["N", *image])
    last = helper.make_tensor_value_info(logits, TensorProto.FLOAT, ["N", classes])
    wrapped = onnx.ModelProto(
        ir_version=max(model.ir_version, 4),  # since 4, weights need not be inputs
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        opset_import=model.opset_import,
        functions=model.functions,
        graph=onnx.GraphProto(name="imported", node=build.nodes, input=[first], output=[last]),
    )
    if not singly:
        wrapped.graph.initializer.extend(graph.initializer)
        wrapped.graph.sparse_initializer.extend(graph.sparse_initializer)
    wrapped.graph.quantization_annotation.extend(graph.quantization_annotation)
    return wrapped


class _Builder:
    """Nodes that are added to a graph, and names that nothing in it has."""

    def __init__(self, prefix: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._prefix, self._count = prefix, 0

    def name(self, word: str) -> str:
        self._count += 1
        return f"{self._prefix}{word}_{self._count}"

    def add(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or self.name(kind.lower())
        self.nodes.append(helper.make_node(kind, inputs, [output], self.name(kind), **attributes))
        return output

    def constant(self, values: list[float] | list[int]) -> str:
        dtype = np.int64 if isinstance(values[0], int) else np.float32
        return self.add("Constant", [], value=numpy_helper.from_array(np.array(values, dtype)))


def _before(build: _Builder, pictures: str, taken: Taken, scaling: Scaling | None) -> str:
    """Add the nodes from pixels in 0..1 to what the network takes, and return their output."""
    types = {name: number for number, name in TYPES.items()}
    values = pictures
    if taken.bgr:
        values = build.add("Gather", [values, build.constant([2, 1, 0])], axis=3)
    if scaling is None:  # whole numbers: 0.5 is added for rounding
        values = build.add("Mul", [values, build.constant([255.0])])
        values = build.add("Floor", [build.add("Add", [values, build.constant([0.5])])])
    else:
        factors = [255.0 * scaling.scale / one for one in scaling.std]
        offsets = [-mean / one for mean, one in zip(scaling.mean, scaling.std, strict=True)]
        if factors != [1.0] * taken.channels:
            values = build.add("Mul", [values, build.constant(factors)])
        if any(offsets):
            values = build.add("Add", [values, build.constant(offsets)])
    if taken.layout == "NCHW":
        values = build.add("Transpose", [values], perm=[0, 3, 1, 2])
    if taken.datatype != "float32":
        values = build.add("Cast", [values], to=types[taken.datatype])
    return values


def _one_by_one(
    build: _Builder,
    graph: onnx.GraphProto,
    entry: onnx.ValueInfoProto,
    exit_: onnx.ValueInfoProto,
    given: str,
    taken: Taken,
    classes: int,
) -> str:
    """Add a Scan over the images `given`, with the network inside, and return its output."""
    image = [taken.height, taken.width, taken.channels]
    if taken.layout == "NCHW":
        image = [taken.channels, taken.height, taken.width]
    batch = taken.batch or 1
    inside = _Builder(build.name("inside_"))
    picture = inside.name("picture")
    alone = inside.add("Reshape", [picture, inside.constant([1, *image])])
    inside.add("Concat", [alone] * batch, entry.name, axis=0)
    inside.nodes += graph.node
    flat = inside.add("Reshape", [exit_.name, inside.constant([-1])])
    own = inside.add("Gather", [flat, inside.constant(list(range(classes)))], axis=0)
    number = entry.type.tensor_type.elem_type
    body = helper.make_graph(
        inside.nodes,
        "one_image",
        [helper.make_tensor_value_info(picture, number, image)],
        [helper.make_tensor_value_info(own, exit_.type.tensor_type.elem_type, [classes])],
        list(graph.initializer),
    )
    body.sparse_initializer.extend(graph.sparse_initializer)
    return build.add("Scan", [given], body=body, num_scan_inputs=1)


def _unused_prefix(model: onnx.ModelProto) -> str:
    """Return the beginning of names that no tensor and no node of `model` has."""
    names, prefix = names_in(model), "wrapped_"
    while any(name.startswith(prefix) for name in names):
        prefix = f"_{prefix}"
    return prefix
