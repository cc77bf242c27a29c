"""Half the bytes: kernels rounded to half precision, and both model files packed accordingly.

Nearly all bytes of a network are its kernels. `round_weights` gives them values that half
precision (float16: 11 significant bits) holds exactly. In Keras they stay float32, so that nothing
else need know; the files leave out the bits that are now zero, `model.keras` by compression and
`model.onnx` by type.

Every finished network is rounded, before anything is measured on it: its scores, its calibration
and both of its files are those of the rounded weights.
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
    """The weights of `model` with two axes or more.

    The others, biases and what belongs to batch normalisation, are few, and a variance may be too
    small or too large for half precision.
    """
    return [weight for weight in model.weights if len(weight.shape) > 1]


def round_weights(model: keras.Model) -> None:
    """Round each kernel of `model` to the nearest values that half precision has, in place.

    A kernel is left as it is where its largest value is above 65504, where half precision ends,
    or below 0.00006, where its relative precision does.
    """
    for kernel in kernels(model):
        values = keras.ops.convert_to_numpy(kernel)
        if _HALF.smallest_normal <= np.abs(values).max() <= _HALF.max:
            kernel.assign(values.astype(np.float16).astype(np.float32))


def compact_keras(path: Path) -> None:
    """Rewrite the `.keras` file at `path`, a zip, with LZMA; Keras loads it like any other.

    45 % of it remains if its network is rounded. It is replaced at once, and the same file
    always becomes the same bytes.
    """
    partial = path.with_name(f".partial-{path.name}")
    with zipfile.ZipFile(path) as plain, zipfile.ZipFile(partial, "w") as packed:
        for name in plain.namelist():
            # A ZipInfo made from a name alone is dated 1980.
            packed.writestr(zipfile.ZipInfo(name), plain.read(name), zipfile.ZIP_LZMA)
    partial.replace(path)


def store_in_onnx(model: onnx.ModelProto, values: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Turn those inputs of the ONNX `model` that `values` names into constants.

    What half precision holds exactly is stored in it, behind a Cast to float32, which ONNX
    Runtime carries out once, when it opens the file. All else is stored as it is.
    """
    casts = []
    for name, exact in values.items():
        with np.errstate(over="ignore"):  # to infinity, which is then found not to be equal
            half = exact.astype(np.float16)
        if np.array_equal(half, exact):
            stored = f"{name}_half"
            model.graph.initializer.append(onnx.numpy_helper.from_array(half, stored))
            to = onnx.TensorProto.FLOAT
            casts.append(onnx.helper.make_node("Cast", [stored], [name], f"{name}_cast", to=to))
        else:
            model.graph.initializer.append(onnx.numpy_helper.from_array(exact, name))
    inputs = [given for given in model.graph.input if given.name not in values]
    nodes = [*casts, *model.graph.node]  # a node comes after those that it needs
    del model.graph.input[:], model.graph.node[:]
    model.graph.input.extend(inputs)
    model.graph.node.extend(nodes)
