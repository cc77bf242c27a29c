"""Export Keras models to ONNX, and check that both give the same results."""

import os
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import onnx

from models.architectures.flip_average import in_one_pass, network_of
from models.calibration import softmax
from models.cards import KERAS_MODEL, ONNX_MODEL
from models.data.datasets import Images, scaled
from models.data.storage import parts
from models.errors import MetaplasticError
from models.packaging.fold import fold_batch_normalisation
from models.packaging.half_precision import kernels, store_in_onnx
from models.packaging.scoring import Logits

TOLERANCE = 1e-5  # the largest accepted difference between two probabilities


class ExportError(MetaplasticError):
    """An export that failed, or that does not agree with its Keras model."""


@dataclass(frozen=True)
class Agreement:
    """The differences between an ONNX model and its Keras model on the same images."""

    images: int
    max_difference: float  # between the probabilities of any class
    different_answers: int  # images whose most probable class differs

    def check(self) -> None:
        """Raise ExportError unless both models agree."""
        if self.max_difference > TOLERANCE or self.different_answers:
            raise ExportError(
                f"{ONNX_MODEL} does not agree with {KERAS_MODEL} on {self.images} images: largest "
                f"difference of a probability {self.max_difference:.2g} (at most {TOLERANCE:g}), "
                f"{self.different_answers} different answers (0); export it again"
            )


def export(folder: Path) -> Path:
    """Write `model.onnx` beside the `model.keras` in `folder`, in one step, and return its path.

    Keras exports to ONNX through TensorFlow. On another backend, a new process does it. Raises
    ExportError if this fails or if there is no Keras model.
    """
    if not (folder / KERAS_MODEL).exists():
        raise ExportError(f"{folder} holds no {KERAS_MODEL}")
    if keras.backend.backend() != "tensorflow":
        return _export_in_tensorflow(folder)
    model = keras.saving.load_model(folder / KERAS_MODEL, compile=False)
    (image,) = model.inputs
    values = {
        kernel.path.replace("/", "_"): keras.ops.convert_to_numpy(kernel)
        for kernel in kernels(model)
    }
    shapes = {image.name: image.shape} | {name: value.shape for name, value in values.items()}
    signature = [keras.InputSpec("float32", shape, name=name) for name, shape in shapes.items()]
    opened = _KernelsAsInputs(model)
    opened(
        [keras.ops.zeros((1, *image.shape[1:])), *values.values()]
    )  # Keras exports a model only after a call
    partial = folder / f".partial-{ONNX_MODEL}"
    with warnings.catch_warnings():
        # tf2onnx and Keras still use names of numpy that will change their meaning.
        warnings.simplefilter("ignore", FutureWarning)
        opened.export(partial, format="onnx", verbose=False, input_signature=[signature])
    network = onnx.load(partial)
    store_in_onnx(network, values)
    fold_batch_normalisation(network)
    try:
        onnx.checker.check_model(network, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ExportError(
            f"{folder / KERAS_MODEL} uses what cannot be exported to ONNX: "
            f"{str(error).partition(chr(10))[0]}"
        ) from error
    onnx.save(network, partial)
    return partial.replace(folder / ONNX_MODEL)


def keras_logits(folder: Path, images: Images) -> Logits:
    """Return the outputs of `model.keras` for uint8 images: float32 (N, classes)."""
    model = keras.saving.load_model(folder / KERAS_MODEL, compile=False)
    answers = [model.predict_on_batch(scaled(part)) for part in parts(images)]
    logits: Logits = np.concatenate(answers)
    return logits


def agreement(
    keras_answers: npt.NDArray[Any], onnx_answers: npt.NDArray[Any], temperature: float = 1.0
) -> Agreement:
    """Compare the outputs (N, classes) of two models for the same images.

    Probabilities are compared at `temperature`, as the service computes them.
    """
    ours, theirs = (softmax(answers, temperature) for answers in (keras_answers, onnx_answers))
    difference = np.abs(ours - theirs).max()
    different = keras_answers.argmax(axis=1) != onnx_answers.argmax(axis=1)
    return Agreement(len(keras_answers), float(difference), int(different.sum()))


class _KernelsAsInputs(keras.Model):
    """A network whose kernels are inputs: [images, *kernels] -> logits.

    The exporter folds constants: it would multiply constant kernels by the factors of batch
    normalisation. The products differ from the values in Keras and do not fit half precision. So
    the kernels are not constants during the export. ONNX Runtime folds them when it opens the file.
    """

    def __init__(self, network: keras.Model) -> None:
        super().__init__(name=network.name)
        self._network = network

    def call(self, inputs: list[Any]) -> Any:
        images, *values = inputs
        mapping = list(zip(kernels(self._network), values, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            if (half := network_of(self._network)) is not None:
                return in_one_pass(half, images)
            return self._network(images, training=False)


_EXPORT = """
import pathlib, sys
from models.quiet import import_keras
import_keras()
from models.packaging.export import export
export(pathlib.Path(sys.argv[1]))
"""


def _export_in_tensorflow(folder: Path) -> Path:
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-c", _EXPORT, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise ExportError(
            f"the export to ONNX failed ({reason}). It needs TensorFlow. Nothing is lost: with "
            f"TensorFlow, `python -m models train --resume {folder}` finishes the training, and "
            f"`python -m models export {folder}` exports a finished one"
        )
    return folder / ONNX_MODEL
