"""Round kernels to half precision, and make both model files smaller accordingly.

Kernels are nearly all bytes of a network. `round_weights` rounds them to values that half precision
(float16, 11 significant bits) represents exactly. In Keras they stay float32, so no other code is
affected. The files do not store the bits that are now zero: `model.keras` by compression,
`model.onnx` by its type.

Every finished network is rounded before anything is measured. So its scores, its calibration and
both of its files belong to the rounded weights.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import onnx

_HALF = np.finfo(np.float16)


def kernels(model: keras.Model) -> list[keras.Variable]:
    """Return the weights of `model` with two or more axes.

    The others are biases and the weights of batch normalisation. They are few, and a variance may
    be too small or too large for half precision.
    """
    return [weight for weight in model.weights if len(weight.shape) > 1]


def round_weights(model: keras.Model) -> None:
    """Round each kernel of `model` to the nearest values of half precision, in place.

    A kernel stays unchanged if its largest absolute value is above 65504, the maximum of half
    precision, or below 0.00006, where its relative precision decreases.
    """
    for kernel in kernels(model):
        values = keras.ops.convert_to_numpy(kernel)
        if _HALF.smallest_normal <= np.abs(values).max() <= _HALF.max:
            kernel.assign(values.astype(np.float16).astype(np.float32))


def compact_keras(path: Path) -> None:
    """Compress the `.keras` file at `path`, a zip archive, with LZMA. Keras can still load it.

    With rounded weights, 45 % of the size remains. The file is replaced in one step. The same input
    always gives the same bytes.
    """
    partial = path.with_name(f".partial-{path.name}")
    with zipfile.ZipFile(path) as original, zipfile.ZipFile(partial, "w") as packed:
        for name in original.namelist():
            # A ZipInfo without a date has a fixed one, 1980.
            packed.writestr(zipfile.ZipInfo(name), original.read(name), zipfile.ZIP_LZMA)
    partial.replace(path)


def store_in_onnx(path: Path, values: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Turn those inputs of the ONNX model at `path` that `values` names into constants.

    Values that half precision represents exactly are stored in it, followed by a Cast to float32,
    which ONNX Runtime executes once when it opens the file. Other values are stored unchanged.
    Raises onnx.checker.ValidationError if the result is not a valid model.
    """
    model = onnx.load(path)
    casts = []
    for name, exact in values.items():
        with np.errstate(over="ignore"):  # an overflow gives infinity, which is not equal below
            half = exact.astype(np.float16)
        if np.array_equal(half, exact):
            stored = f"{name}_half"
            model.graph.initializer.append(onnx.numpy_helper.from_array(half, stored))
            to = onnx.TensorProto.FLOAT
            casts.append(onnx.helper.make_node("Cast", [stored], [name], f"{name}_cast", to=to))
        else:
            model.graph.initializer.append(onnx.numpy_helper.from_array(exact, name))
    inputs = [given for given in model.graph.input if given.name not in values]
    nodes = [*casts, *model.graph.node]  # a node must follow its inputs
    del model.graph.input[:], model.graph.node[:]
    model.graph.input.extend(inputs)
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
