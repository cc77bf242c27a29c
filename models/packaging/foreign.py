"""ONNX files from elsewhere: read with care, since anybody may have made them."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from models.cards import MOST_SIDE
from models.errors import MetaplasticError
from models.files import read_regular

MOST_BYTES = 1 << 30  # of a file and of the data beside it; a VGG-16 has half of that
LEAST_OPSET = 7  # older operators are not in ONNX Runtime
MOST_FIXED_BATCH = 64

Layout = Literal["NHWC", "NCHW"]

TYPES = {
    TensorProto.UINT8: "uint8",
    TensorProto.FLOAT16: "float16",
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
}


class ForeignError(MetaplasticError):
    """A model that cannot be imported, or a question about it that an option answers."""


@dataclass(frozen=True)
class Taken:
    """The images that a network takes."""

    layout: Layout
    height: int
    width: int
    channels: int
    datatype: str
    batch: int | None  # None: any number of images at once
    bgr: bool = False  # whether blue comes first, as OpenCV has it


def read_onnx(path: Path) -> tuple[onnx.ModelProto, dict[str, Path]]:
    """Return the model in the file `path`, and the files beside it that its weights came from.

    These are by their names in its folder.

    Nothing is run. Raises ForeignError for what is no ONNX model, for one that is too large or too
    old, and for weights outside the file's folder.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise too_large(path)
        model = onnx.load_model_from_string(read_regular(path))
    except OSError as error:
        raise ForeignError(f"{path} cannot be read ({error.strerror})") from error
    except DecodeError as error:
        raise ForeignError(f"{path} is no ONNX model ({error})") from error
    if not model.graph.node or not model.opset_import:
        raise ForeignError(f"{path} is no ONNX model: it has no operators")
    if not all(isinstance(name, str) for name in _words(model)):
        raise ForeignError(f"{path} is no ONNX model: some of its names are no text in UTF-8")
    if (opset := opset_of(model)) < LEAST_OPSET:
        raise ForeignError(
            f"{path} uses opset {opset}, and ONNX Runtime needs {LEAST_OPSET} or newer; export it "
            "again, or convert it with onnx.version_converter"
        )
    return model, _add_external_weights(model, path)


def names_in(model: onnx.ModelProto) -> set[str]:
    """Return the names of all tensors and operators in `model`."""
    return {
        name
        for graph in graphs_of(model)
        for node in graph.node
        for name in (node.name, *node.input, *node.output)
    } | {tensor.name for tensor in model.graph.initializer}


def _words(model: onnx.ModelProto) -> Iterator[object]:
    """Yield all names in `model`: texts, or bytes where they are no text."""
    yield from names_in(model)
    yield from (model.producer_name, model.producer_version)
    yield from (entry.domain for entry in model.opset_import)
    for graph in graphs_of(model):
        if isinstance(graph, onnx.GraphProto):
            yield from (each.name for each in (*graph.input, *graph.output))
        for node in graph.node:
            yield from (node.op_type, node.domain, *(entry.name for entry in node.attribute))


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators that `model` uses."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def _add_external_weights(model: onnx.ModelProto, path: Path) -> dict[str, Path]:
    """Read the weights that lie in other files into `model`, and return these files.

    Only the file's own folder is read.
    """
    folder, total = path.parent.resolve(), path.stat().st_size
    files = set()
    outside = [
        tensor
        for tensor in _tensors(graphs_of(model))
        if tensor.data_location == TensorProto.EXTERNAL
    ]
    for tensor in outside:
        known = {entry.key: entry.value for entry in tensor.external_data}
        file, size = _beside(known.get("location", ""), path)
        files.add(file)
        try:
            offset = int(known.get("offset") or 0)
            length = int(known.get("length") or size - offset)
        except ValueError:
            offset = length = -1
        if offset < 0 or length < 0 or offset + length > size:
            raise ForeignError(f"{path}: the weights of {tensor.name!r} are not in {file.name}")
        total += length
        if total > MOST_BYTES:
            raise too_large(path)
    if outside:
        try:
            onnx.load_external_data_for_model(model, str(folder))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise ForeignError(f"{path}: its weights cannot be read ({_first(error)})") from error
    return {file.relative_to(folder).as_posix(): file for file in sorted(files)}


def _beside(location: str, path: Path) -> tuple[Path, int]:
    """Return the file `location` in the folder of `path`, and its size. Raises ForeignError."""
    folder = path.parent.resolve()
    try:
        file = (folder / location).resolve()
        if location and file.is_relative_to(folder) and file.is_file():
            return file, file.stat().st_size
    except (OSError, ValueError):  # no name of a file
        pass
    raise ForeignError(
        f"{path} has weights in {location[:100]!r}, which is no file in its folder; weights are "
        "read from there alone (copy the file beside it, or save the model as one file)"
    )


def graphs_of(model: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """Yield the graph of `model`, those inside its operators, and its functions."""
    waiting: list[onnx.GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]


def _tensors(graphs: Iterable[onnx.GraphProto | onnx.FunctionProto]) -> Iterator[onnx.TensorProto]:
    """Yield every tensor that is stored in `graphs`."""
    for graph in graphs:
        if isinstance(graph, onnx.GraphProto):
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from attribute.tensors
                if attribute.HasField("t"):
                    yield attribute.t


def count_parameters(model: onnx.ModelProto) -> int:
    """Return how many numbers are stored in `model`; shapes and other whole numbers do not count.

    Batch normalisation that the exporter has multiplied into a convolution is not there any more.
    """
    counted = {TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING}
    return sum(
        math.prod(tensor.dims)
        for tensor in _tensors(graphs_of(model))
        if tensor.data_type not in counted
    )


def input_of(
    model: onnx.ModelProto,
    layout: Layout | None = None,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
) -> Taken:
    """Return what the network takes, as far as its file says; the arguments say the rest.

    Raises ForeignError for what is no picture, where an argument is missing, and where one
    contradicts the file.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [given for given in model.graph.input if given.name not in stored]
    for what, found in ("input", inputs), ("output", list(model.graph.output)):
        if len(found) != 1:
            names = ", ".join(each.name for each in found) or "none"
            raise ForeignError(
                f"expected a network with one {what}, found {len(found)} ({names}); export it "
                f"again with the {'picture' if what == 'input' else 'classes'} alone"
            )
    kind = inputs[0].type.tensor_type
    if kind.elem_type not in TYPES:
        name = _type_name(kind.elem_type)
        raise ForeignError(
            f"its input {inputs[0].name!r} is of the type {name}; expected one of "
            f"{', '.join(TYPES.values())}"
        )
    dims = [
        d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim
    ]
    shown = "x".join(str(d) if d else "?" for d in dims) or "unknown"
    if len(dims) != 4:
        raise ForeignError(
            f"its input {inputs[0].name!r} has the shape {shown}; expected pictures with four "
            "axes: images, height, width and channels, or images, channels, height and width"
        )
    layout = layout or _layout_of(dims, shown)
    (high, wide), axis = ((1, 2), 3) if layout == "NHWC" else ((2, 3), 1)
    channels = _agreed(dims[axis], channels, "--channels", shown)
    if channels not in (1, 3):
        raise ForeignError(f"its input of the shape {shown} has {channels} channels, not 1 or 3")
    asked = size or (None, None)
    height, width = (
        _agreed(dims[place], side, "--size", shown)
        for place, side in zip((high, wide), asked, strict=True)
    )
    if max(height, width) > MOST_SIDE:
        raise ForeignError(f"its pictures have {height}x{width} pixels; at most {MOST_SIDE} a side")
    batch = dims[0]
    if batch is not None and batch > MOST_FIXED_BATCH:
        raise ForeignError(
            f"it takes {batch} images at once and no other number; export it for one, or for any "
            "number"
        )
    _check_output(model.graph.output[0])
    return Taken(layout, height, width, channels, TYPES[kind.elem_type], batch)


def _layout_of(dims: list[int | None], shown: str) -> Layout:
    first, last = dims[1] in (1, 3), dims[3] in (1, 3)
    if first == last:
        raise ForeignError(
            f"its input has the shape {shown}, which does not say where the channels are; give "
            "--layout NHWC (channels last, as Keras has them) or --layout NCHW (as PyTorch does)"
        )
    return "NCHW" if first else "NHWC"


def _agreed(stored: int | None, asked: int | None, option: str, shown: str) -> int:
    """Return what the file says, or else the option. Raises ForeignError if they contradict."""
    if stored is None and asked is None:
        raise ForeignError(
            f"its input has the shape {shown}, which leaves this open; give {option}"
        )
    if stored is not None and asked is not None and stored != asked:
        raise ForeignError(f"its input has the shape {shown}, and no other {option} is possible")
    found = asked if stored is None else stored
    assert found is not None
    return found


def _check_output(output: onnx.ValueInfoProto) -> None:
    if output.type.WhichOneof("value") not in (None, "tensor_type"):  # scikit-learn's ZipMap
        raise ForeignError(
            f"its output {output.name!r} is no tensor; expected a number for each class (for "
            "scikit-learn's classifiers, export with zipmap=False)"
        )
    known = output.type.tensor_type.elem_type
    if known and (known not in TYPES or known == TensorProto.UINT8):
        raise ForeignError(
            f"its output {output.name!r} is of the type {_type_name(known)}; expected a number for "
            "each class, in floating point"
        )


def _type_name(number: int) -> str:
    known = number in TensorProto.DataType.values()
    return str(TensorProto.DataType.Name(number)).lower() if known else f"number {number}"


def too_large(path: Path) -> ForeignError:
    """Return the error for a file or folder of more than MOST_BYTES."""
    return ForeignError(f"{path} has more than {MOST_BYTES >> 20} MiB, the most for a model")


def _first(error: Exception) -> str:
    return str(error).partition("\n")[0]
