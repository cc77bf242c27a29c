"""Keras models and SavedModels from elsewhere -> ONNX, in a process with TensorFlow.

`python -m models.packaging.conversion MODEL ONNX` is that process. A Keras file is loaded with
`safe_mode`: it may not bring functions along (Lambda layers), and nothing is unpickled.
"""

import os
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

from models.packaging.apart import ApartError, limit_memory, run_apart
from models.packaging.foreign import MOST_BYTES, ForeignError, too_large

KERAS = (".keras", ".h5", ".hdf5")
MOST_SECONDS = 900.0
MOST_MEMORY = 12 << 30  # bytes of address space, of which TensorFlow takes some without use
SAVED_MODEL = "saved_model.pb"
_SERVED = "serving_default"  # the function of a SavedModel that servers call

_NO_CODE = (
    ". The import knows Keras' own layers and runs no code of a file: export the network to ONNX "
    "where it was made, or replace that layer"
)


def convert(model: Path, target: Path) -> None:
    """Write the Keras file or the SavedModel folder `model` to the ONNX file `target`.

    Raises ForeignError if it is too large, or cannot be loaded or converted.
    """
    files = [path for path in model.rglob("*") if path.is_file()] if model.is_dir() else [model]
    if sum(path.stat().st_size for path in files) > MOST_BYTES:
        raise too_large(model)
    environment = {
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TMPDIR": str(target.parent),  # where what they leave behind is removed
    }
    try:
        run_apart(__name__, model, target, seconds=MOST_SECONDS, environment=environment)
    except ApartError as error:
        raise ForeignError(f"{model} cannot be converted to ONNX: {error}") from error


def _convert_keras(model: Path, target: Path) -> None:
    import keras

    class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
        """As Keras 2 has it, which also stores the number of groups. It is 1."""

        def __init__(self, *, groups: int = 1, **settings: Any) -> None:
            super().__init__(**settings)

    own = {}
    if model.suffix.lower() == ".keras":
        check_archive(model)
    else:
        own = {"DepthwiseConv2D": DepthwiseConv2D}
    network = keras.saving.load_model(model, custom_objects=own, compile=False, safe_mode=True)
    if not isinstance(network, keras.Model):
        raise ForeignError(f"it holds a {type(network).__name__}, not a network")
    if not network.built:
        raise ForeignError("it was saved before it was built: call it on a picture, and save it")
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise ForeignError(
            f"expected a network with one input and one output, found {len(network.inputs)} and "
            f"{len(network.outputs)}"
        )
    (image,) = network.inputs
    if len(image.shape) != 4:
        raise ForeignError(f"expected pictures as its input, found the shape {image.shape}")
    # The number of images stays open, whatever it was. Layers that augment pictures do so unless
    # they are told that this is no training.
    pictures = keras.Input(image.shape[1:], dtype=image.dtype, name="pictures")
    answers = keras.tree.flatten(network(pictures, training=False))
    spec = keras.InputSpec(image.dtype, (None, *image.shape[1:]), name="pictures")
    told = keras.Model(pictures, answers[0])
    told.export(target, format="onnx", verbose=False, input_signature=[spec])


def check_archive(model: Path) -> None:
    """Raise ForeignError if an archive holds more than a model may, or names outside of it."""
    with zipfile.ZipFile(model) as archive:
        members = archive.infolist()
    if sum(member.file_size for member in members) > MOST_BYTES:
        raise ForeignError(f"it holds more than {MOST_BYTES >> 20} MiB, the most for a model")
    for member in members:
        path = Path(member.filename)
        if path.is_absolute() or ".." in path.parts:
            raise ForeignError(f"it names a file outside of it, {member.filename[:100]!a}")


def _convert_saved_model(folder: Path, target: Path) -> None:
    from tf2onnx import convert

    words = ("--saved-model", str(folder), "--output", str(target), "--opset", "17")
    sys.argv = ["tf2onnx.convert", *words, *_signature_of(folder)]
    convert.main()


def _signature_of(folder: Path) -> list[str]:
    """Return how tf2onnx is told which function to convert; it takes the first one by itself."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / SAVED_MODEL).read_bytes())
    known = {name for graph in saved.meta_graphs for name in graph.signature_def}
    names = sorted(name for name in known if not name.startswith("_"))
    if _SERVED in names:
        return ["--signature_def", _SERVED]
    if len(names) > 1:
        raise ForeignError(
            f"it has the signatures {', '.join(names)}, and none is called {_SERVED}; save it "
            "with the one that classifies"
        )
    return []


def _main(model: str, target: str) -> None:
    warnings.simplefilter("ignore")
    limit_memory(MOST_MEMORY)
    try:
        if Path(model).is_dir():
            _convert_saved_model(Path(model), Path(target))
        else:
            _convert_keras(Path(model), Path(target))
    except ImportError as error:
        sys.exit(f"this needs TensorFlow and tf2onnx: pip install -r requirements.txt ({error})")
    except Exception as error:  # loading a file may raise anything
        sys.stdout.flush()
        sys.stderr.write(f"\n{_reason(error)}\n")
        sys.stderr.flush()
        os._exit(1)  # TensorFlow may print more at its exit


def _reason(error: Exception) -> str:
    """Return why a file cannot be loaded, in one line."""
    text = str(error) or type(error).__name__
    # Keras puts a layer's whole description before the reason, and how to run its code behind it.
    line = text.rpartition("Exception encountered: ")[2].strip().partition("\n")[0]
    said = " ".join(line.split())
    if any(word in text for word in ("safe_mode", "custom_object", "custom classes")):
        return said.partition(". ")[0][:300].rstrip(".") + _NO_CODE
    return said[:300]


if __name__ == "__main__":
    _main(*sys.argv[1:])
