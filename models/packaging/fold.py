"""Batch normalisation multiplied into the convolutions before it, across pools, joins and ReLU.

ONNX Runtime does this where normalisation stands right behind a convolution. In GoogLeNet and VGG
a pool or a concatenation lies between, and ReLU in the networks that learn from reward. There

    scale * max(x) + offset = max(scale * x + offset)    and    scale * relu(x) = relu(scale * x)

hold where no scale is negative; a mean and a concatenation commute with any scale. A normalisation
with a negative scale behind a max-pool or ReLU stays where it is.

The normalisation of the image itself moves behind the node that puts the channels first. There each
channel lies in one piece. Before it, ONNX Runtime takes the values of one pixel at a time, which
was a sixth of the time of a small network.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

_MAX_POOLS = frozenset({"MaxPool", "GlobalMaxPool"})
_MEAN_POOLS = frozenset({"AveragePool", "GlobalAveragePool"})
_NO_NEGATIVE_SCALE = _MAX_POOLS | {"Relu"}  # what commutes with a scale only where it is not

Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Source:
    """A convolution whose maps become the channels `first` to `last` - 1 of a later tensor."""

    convolution: onnx.NodeProto
    first: int
    last: int
    between: frozenset[str]  # the kinds of nodes that lie between

    def part(self, values: Values) -> Values:
        """Return what belongs to its maps, of `values` for each channel of the later tensor."""
        return values[self.first : self.last]


def fold_batch_normalisation(model: onnx.ModelProto) -> None:
    """Multiply each batch normalisation of `model` into its convolutions, where this is exact.

    What cannot go into them, an offset behind ReLU, moves behind a max-pool, where there is less
    of it. ReLU behind pools and concatenations moves to the convolutions, where ONNX Runtime
    carries out both at once. A kernel is multiplied by a node, which ONNX Runtime carries out
    once, when it opens the model: kernels stay as they are stored.
    """
    graph = _Graph(model)
    for multiply in graph.nodes("Mul"):
        graph.fold(multiply)
    for pool in graph.nodes("MaxPool"):
        graph.add_behind(pool)
    for relu in graph.nodes("Relu"):
        graph.move_to_convolutions(relu)
    for order in (*graph.nodes("Reshape"), *graph.nodes("Transpose")):
        graph.normalise_behind(order)
    for reshape in graph.nodes("Reshape"):
        graph.name_shape(reshape)
    graph.write()


class _Graph:
    """The nodes of a model while they are changed, and which tensor goes from which to which."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._nodes = list(model.graph.node)
        self._constants = {
            stored.name: onnx.numpy_helper.to_array(stored) for stored in model.graph.initializer
        }
        known = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.value_info
        # 0 stands for a length that the file does not say, such as the number of images.
        self._shapes = {
            tensor.name: [length.dim_value for length in tensor.type.tensor_type.shape.dim]
            for tensor in known
        }
        self._channels = {name: shape[1] for name, shape in self._shapes.items() if shape[1:]}
        self._outputs = {tensor.name for tensor in model.graph.output}

    def nodes(self, kind: str) -> list[onnx.NodeProto]:
        return [node for node in self._nodes if node.op_type == kind]

    def fold(self, multiply: onnx.NodeProto) -> None:
        """Multiply `multiply`, and the Add behind it, into the convolutions before, if there are.

        Where ReLU lies between, the Add stays.
        """
        scale, add = self._by_channel(multiply), self._only_reader(multiply.output[0])
        offset = self._by_channel(add) if add is not None and add.op_type == "Add" else None
        if scale is None or add is None or offset is None or len(scale) != len(offset):
            return
        sources = self._sources(self._data(multiply), len(scale))
        if not sources or any(
            source.between & _NO_NEGATIVE_SCALE and (source.part(scale) < 0).any()
            for source in sources
        ):
            return
        rectified = any("Relu" in source.between for source in sources)
        taken = np.zeros_like(offset) if rectified else offset
        for source in sources:
            self._scale(source.convolution, source.part(scale), source.part(taken))
        self._drop(multiply)
        if not rectified:
            self._drop(add)

    def add_behind(self, pool: onnx.NodeProto) -> None:
        """Have what is added for each channel before the max-pool `pool` added behind it."""
        add = self._producer(pool.input[0])
        if add is None or add.op_type != "Add" or self._by_channel(add) is None:
            return
        if self._only_reader(add.output[0]) is None:
            return
        (data, sums), (pooled,) = (self._data(add), add.output[0]), pool.output
        constant = next(name for name in add.input if name in self._constants)
        self._nodes.remove(add)
        pool.input[0], pool.output[0] = data, f"{pooled}_of_less"
        behind = onnx.helper.make_node("Add", [pool.output[0], constant], [pooled], sums)
        self._nodes.insert(self._nodes.index(pool) + 1, behind)

    def move_to_convolutions(self, relu: onnx.NodeProto) -> None:
        """Put `relu` right behind its convolutions, where max-pools and joins lie between."""
        (tensor,) = relu.input
        sources = self._sources(tensor, self._channels.get(tensor, 0))
        between = frozenset[str]().union(*(source.between for source in sources))
        if not between or between & (_MEAN_POOLS | {"Relu"}):
            return
        self._drop(relu)
        for source in sources:
            (maps,) = source.convolution.output
            source.convolution.output[0] = signed = f"{maps}_signed"
            rectify = onnx.helper.make_node("Relu", [signed], [maps], f"{maps}_relu")
            self._nodes.insert(self._nodes.index(source.convolution) + 1, rectify)

    def normalise_behind(self, order: onnx.NodeProto) -> None:
        """Have what is multiplied or added for each channel, right before `order`, done behind it.

        `order` puts the channels first. Where there is one channel, any Reshape may do so.
        """
        first = order.op_type == "Transpose" and _attributes(order, "perm") == [0, 3, 1, 2]
        while (node := self._producer(order.input[0])) is not None:
            constants = [name for name in node.input if name in self._constants]
            values = self._constants[constants[0]] if len(constants) == 1 else np.zeros(())
            one = order.op_type == "Reshape" and values.size == 1
            if (
                node.op_type not in ("Mul", "Add")
                or values.ndim != 1
                or not (first or one)
                or self._only_reader(node.output[0]) is None
            ):
                return
            (result,), data = order.output, self._data(node)
            order.input[0], order.output[0] = data, f"{result}_before_{node.op_type.lower()}"
            values = values.reshape(-1, 1, 1) if first else values
            operands = [order.output[0], self._constant(f"{result}_{node.op_type.lower()}", values)]
            behind = onnx.helper.make_node(node.op_type, operands, [result], node.name)
            self._nodes.remove(node)
            self._nodes.insert(self._nodes.index(order) + 1, behind)

    def name_shape(self, reshape: onnx.NodeProto) -> None:
        """Have `reshape` take its shape from a constant, where only one length is unknown."""
        shape = self._shapes.get(reshape.output[0], [])
        if reshape.input[1] not in self._constants and shape.count(0) == 1:
            lengths = np.array([length or -1 for length in shape], np.int64)
            reshape.input[1] = self._constant(f"{reshape.output[0]}_shape", lengths)

    def write(self) -> None:
        """Make these the model's nodes, with the constants that they need."""
        used = self._outputs | {name for node in self._nodes for name in node.input}
        while any(used.isdisjoint(node.output) for node in self._nodes):
            self._nodes = [node for node in self._nodes if not used.isdisjoint(node.output)]
            used = self._outputs | {name for node in self._nodes for name in node.input}
        kept = [stored for stored in self._graph.initializer if stored.name in used]
        del self._graph.node[:], self._graph.initializer[:], self._graph.value_info[:]
        self._graph.node.extend(self._nodes)
        self._graph.initializer.extend(kept)

    def _sources(self, tensor: str, channels: int) -> list[_Source]:
        """Return the convolutions that `tensor` is made from, in the order of its channels.

        Empty where it comes from anything else too, or anything else reads what lies between.
        """
        found = list(self._trace(tensor, 0, frozenset()))
        sources = [source for source in found if source is not None]
        complete = len(sources) == len(found) and sources[-1].last == channels
        return sources if complete else []

    def _trace(self, tensor: str, first: int, between: frozenset[str]) -> Iterator[_Source | None]:
        node, channels = self._producer(tensor), self._channels.get(tensor, 0)
        if node is None or not channels or self._only_reader(tensor) is None:
            yield None
        elif node.op_type == "Conv":
            yield _Source(node, first, first + channels, between)
        elif node.op_type == "Concat" and _attribute(node, "axis") == 1:
            for part in node.input:
                yield from self._trace(part, first, between | {"Concat"})
                first += self._channels.get(part, 0)
        elif node.op_type in _NO_NEGATIVE_SCALE | _MEAN_POOLS and not _attribute(
            node,
            "count_include_pad",  # a mean over a margin of zeros takes no offset
        ):
            yield from self._trace(node.input[0], first, between | {node.op_type})
        else:
            yield None

    def _scale(self, convolution: onnx.NodeProto, scale: Values, offset: Values) -> None:
        """Have `convolution` answer its maps times `scale`, plus `offset`, for each map."""
        image, kernel, *bias = convolution.input
        if bias:
            offset = self._constants[bias[0]] * scale + offset
        scaled = f"{convolution.output[0]}_kernel"
        factors = self._constant(f"{scaled}_scale", scale.reshape(-1, 1, 1, 1))
        offsets = self._constant(f"{scaled}_offset", offset)
        multiply = onnx.helper.make_node("Mul", [kernel, factors], [scaled], scaled)
        self._nodes.insert(self._nodes.index(convolution), multiply)
        del convolution.input[:]
        convolution.input.extend([image, scaled, offsets])

    def _constant(self, name: str, values: npt.NDArray[Any]) -> str:
        self._graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        self._constants[name] = values
        return name

    def _by_channel(self, node: onnx.NodeProto) -> Values | None:
        """Return the constant of a Mul or Add that has a value for each channel: (C,)."""
        found = [self._constants[name] for name in node.input if name in self._constants]
        if len(found) != 1 or found[0].ndim != 4 or found[0].size != found[0].shape[1]:
            return None
        values: Values = found[0].reshape(-1)
        return values

    def _data(self, node: onnx.NodeProto) -> str:
        """Return the input of a node that is no constant."""
        return next(str(name) for name in node.input if name not in self._constants)

    def _producer(self, tensor: str) -> onnx.NodeProto | None:
        return next((node for node in self._nodes if tensor in node.output), None)

    def _only_reader(self, tensor: str) -> onnx.NodeProto | None:
        readers = [node for node in self._nodes if tensor in node.input]
        return readers[0] if len(readers) == 1 and tensor not in self._outputs else None

    def _drop(self, node: onnx.NodeProto) -> None:
        """Have what comes before `node`, and is read by nothing else, answer in its place."""
        before = self._producer(self._data(node))
        assert before is not None
        before.output[0] = node.output[0]
        self._nodes.remove(node)


def _attribute(node: onnx.NodeProto, name: str) -> int:
    return next((given.i for given in node.attribute if given.name == name), 0)


def _attributes(node: onnx.NodeProto, name: str) -> list[int]:
    return next((list(given.ints) for given in node.attribute if given.name == name), [])
