"""Keras models and SavedModels from elsewhere -> ONNX, in a process with TensorFlow.

`python -m models.packaging.conversion MODEL ONNX` is that process. A Keras file is loaded with
`safe_mode`: it may not bring functions along (Lambda layers), and nothing is unpickled.
"""

import os
import subprocess
import sys
import warnings
from pathlib import Path

from models.packaging.apart import ApartError, run_apart
from models.packaging.foreign import ForeignError

KERAS = (".keras", ".h5", ".hdf5")
MOST_SECONDS = 900.0
SAVED_MODEL = "saved_model.pb"


def convert(model: Path, target: Path) -> None:
    """Write the Keras file or the SavedModel folder `model` to the ONNX file `target`.

    Raises ForeignError if it cannot be loaded or converted.
    """
    tensorflow = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        run_apart(__name__, model, target, seconds=MOST_SECONDS, environment=tensorflow)
    except ApartError as error:
        raise ForeignError(f"{model} cannot be converted to ONNX: {error}") from error


def _convert_keras(model: Path, target: Path) -> None:
    import keras

    network = keras.saving.load_model(model, compile=False, safe_mode=True)
    if not isinstance(network, keras.Model):
        raise ForeignError(f"it holds a {type(network).__name__}, not a network")
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise ForeignError(
            f"expected a network with one input and one output, found {len(network.inputs)} and "
            f"{len(network.outputs)}"
        )
    (image,) = network.inputs
    if len(image.shape) != 4:
        raise ForeignError(f"expected pictures as its input, found the shape {image.shape}")
    # The number of images stays open, whatever it was.
    spec = keras.InputSpec(image.dtype, (None, *image.shape[1:]), name="pictures")
    network.export(target, format="onnx", verbose=False, input_signature=[spec])


def _convert_saved_model(folder: Path, target: Path) -> None:
    command = ("-m", "tf2onnx.convert", "--saved-model", folder, "--output", target)
    done = subprocess.run(  # noqa: S603
        [sys.executable, *map(str, command), "--opset", "17"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ForeignError(done.stderr.strip().rpartition("\n")[2])


def _main(model: str, target: str) -> None:
    warnings.simplefilter("ignore")
    try:
        if Path(model).is_dir():
            _convert_saved_model(Path(model), Path(target))
        else:
            _convert_keras(Path(model), Path(target))
    except ImportError as error:
        sys.exit(f"this needs TensorFlow and tf2onnx: pip install -r requirements.txt ({error})")
    except Exception as error:  # loading a file may raise anything
        lines = (str(error) or type(error).__name__).strip().splitlines()
        sys.stdout.flush()
        sys.stderr.write(f"\n{' '.join(lines[0].split())}\n")
        os._exit(1)  # TensorFlow may print more at its exit


if __name__ == "__main__":
    _main(*sys.argv[1:])
