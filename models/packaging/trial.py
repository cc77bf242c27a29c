"""Run an ONNX file that anybody may have made, in a process with little memory and time.

`python -m models.packaging.trial answer MODEL PICTURES RESULT`, or `look MODEL SHAPE DTYPE`, is
that process.
"""

import io
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.packaging.apart import ApartError, limit_memory, run_apart
from models.packaging.foreign import ForeignError, Taken

MOST_SECONDS = 60.0  # for a process: it opens the file and runs it a few times
MOST_MEMORY = 8 << 30  # bytes of address space; a VGG-16 needs a third

Answers = npt.NDArray[np.float32]  # (N, classes)


@dataclass(frozen=True)
class Trial:
    """What a network answers to some pictures."""

    together: Answers  # to all of them in one batch
    singly: Answers  # to one after the other
    milliseconds: float  # for one picture, on one thread: the fastest of several


def try_out(model: Path, pictures: npt.NDArray[np.float32]) -> Trial:
    """Run the file `model` on pictures (N, height, width, channels) in 0..1.

    Raises ForeignError if it cannot be opened or run within the limits.
    """
    given, result = model.with_suffix(".pictures.npy"), model.with_suffix(".answers.npz")
    content = io.BytesIO()
    np.save(content, pictures)
    given.write_bytes(content.getbuffer())  # on a full disk, numpy would not say so
    try:
        run_apart(__name__, "answer", model, given, result, seconds=MOST_SECONDS)
        with np.load(result, allow_pickle=False) as found:
            return Trial(found["together"], found["singly"], float(found["milliseconds"]))
    except ApartError as error:
        raise ForeignError(f"ONNX Runtime cannot run it: {error}") from error
    finally:
        given.unlink()
        result.unlink(missing_ok=True)


@dataclass(frozen=True)
class Look:
    """What a file does with one image."""

    answers: int  # numbers that it gives
    multiply_adds: int  # of convolutions and matrix products, those inside If and Loop left out


def look_at(model: Path, taken: Taken) -> Look:
    """Run the file `model`, as it came, on an empty image. Raises ForeignError if it cannot be."""
    image = (taken.height, taken.width, taken.channels)
    if taken.layout == "NCHW":
        image = (taken.channels, taken.height, taken.width)
    batch = taken.batch or 1
    try:
        shape = json.dumps([batch, *image])
        out = run_apart(__name__, "look", model, shape, taken.datatype, seconds=MOST_SECONDS)
    except ApartError as error:
        raise ForeignError(f"ONNX Runtime cannot run it: {error}") from error
    answers, multiply_adds = json.loads(out)
    return Look(answers // batch, multiply_adds // batch)


def _answer(model: Path, pictures: Path, result: Path) -> None:
    session = _session(str(model))
    given = np.load(pictures, allow_pickle=False)
    name = session.get_inputs()[0].name
    alone, seconds = [], math.inf
    for picture in (*given, *given):
        began = time.perf_counter()
        alone.append(session.run(None, {name: picture[None]})[0])
        seconds = min(seconds, time.perf_counter() - began)
    together = session.run(None, {name: given})[0]
    np.savez(
        result,
        together=together,
        singly=np.concatenate(alone[: len(given)]),
        milliseconds=1000 * seconds,
    )


# The places of two factors among the inputs of an operator.
_FACTORS = {
    "Conv": (0, 1),
    "ConvInteger": (0, 1),
    "ConvTranspose": (0, 1),
    "QLinearConv": (0, 3),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearMatMul": (0, 3),
}


def _look(model: Path, shape: list[int], datatype: str) -> None:
    import onnx
    from onnx import inliner

    whole = inliner.inline_local_functions(onnx.load(model))
    graph = whole.graph
    known = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type in _FACTORS]
    asked = {name for node in nodes for name in _tensors_of(node)} - set(known)
    asked -= {each.name for each in (*graph.output, *graph.input)}
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(asked))
    session = _session(whole.SerializeToString(), optimised=False)
    (entry,) = (each.name for each in session.get_inputs())
    names = [each.name for each in session.get_outputs()]
    zeros = np.zeros(shape, datatype)
    known[entry] = zeros.shape
    for name, values in zip(names, session.run(names, {entry: zeros}), strict=True):
        known[name] = np.shape(values)
    answers = math.prod(known[graph.output[0].name])
    sys.stdout.write(json.dumps([answers, sum(_products(node, known) for node in nodes)]))


def _tensors_of(node: Any) -> Iterator[str]:
    """Yield the names of an operator's two factors and of its result."""
    yield from (node.input[place] for place in _FACTORS[node.op_type])
    yield node.output[0]


def _products(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    first, second, result = (shapes[name] for name in _tensors_of(node))
    if node.op_type == "ConvTranspose":  # each value is multiplied by the weights of its channel
        return math.prod(first) * math.prod(second[1:])
    if "Conv" in node.op_type:  # each result is a sum over the weights of its map
        return math.prod(result) * math.prod(second[1:])
    turned = any(entry.name == "transA" and entry.i for entry in node.attribute)
    return math.prod(result) * first[0 if turned else -1]


def _session(model: str | bytes, *, optimised: bool = True) -> Any:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # as the service has it
    options.log_severity_level = 4  # what is wrong is raised as well
    options.enable_cpu_mem_arena = False
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _main(command: str, *arguments: str) -> None:
    limit_memory(MOST_MEMORY)
    try:
        if command == "answer":
            _answer(*map(Path, arguments))
        else:
            model, shape, datatype = arguments
            _look(Path(model), json.loads(shape), datatype)
    except MemoryError:
        sys.exit(f"it needs more than {MOST_MEMORY >> 30} GiB of memory")
    except Exception as error:  # onnxruntime's errors have no class in common
        sys.exit(" ".join((str(error) or type(error).__name__).split()))


if __name__ == "__main__":
    _main(*sys.argv[1:])
