"""Export Keras models to ONNX, and check that both give the same results."""

import dataclasses
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

from models.calibration import softmax
from models.cards import CARD, KERAS_MODEL, ONNX_MODEL, checksums, read_card, write_card
from models.data.datasets import Images, scaled
from models.errors import MetaplasticError
from models.packaging.half_precision import kernels, store_in_onnx
from models.packaging.scoring import Logits

TOLERANCE = 1e-5  # the largest accepted difference between two probabilities
_BATCH = 500


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
    try:
        store_in_onnx(partial, values)
    except onnx.checker.ValidationError as error:
        raise ExportError(
            f"{folder / KERAS_MODEL} uses what cannot be exported to ONNX: "
            f"{str(error).partition(chr(10))[0]}"
        ) from error
    return partial.replace(folder / ONNX_MODEL)


def export_again(folder: Path) -> Path:
    """Export the model in `folder` and, if it has a card, update the checksum there."""
    path = export(folder)
    if (folder / CARD).exists():
        card = read_card(folder)
        files = {**card.files, ONNX_MODEL: checksums(folder)[ONNX_MODEL]}
        write_card(folder, dataclasses.replace(card, files=files))
    return path


def keras_logits(folder: Path, images: Images) -> Logits:
    """Return the outputs of `model.keras` for uint8 images: float32 (N, classes)."""
    model = keras.saving.load_model(folder / KERAS_MODEL, compile=False)
    logits: Logits = model.predict(scaled(images), batch_size=_BATCH, verbose=0)
    return logits


def onnx_logits(folder: Path, images: Images) -> Logits:
    """Return the outputs of `model.onnx` for uint8 images: float32 (N, classes)."""
    return onnx_answers(folder, scaled(images))


def onnx_answers(folder: Path, images: npt.NDArray[np.float32]) -> Logits:
    """Return the outputs of `model.onnx` for images in 0..1: float32 (N, classes)."""
    # By default, ONNX Runtime sends usage data to its makers. This must be set before the import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / ONNX_MODEL, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = [
        session.run(None, {name: images[start : start + _BATCH]})[0]
        for start in range(0, len(images), _BATCH)
    ]
    return np.concatenate(parts)


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
            return self._network(images, training=False)


def _export_in_tensorflow(folder: Path) -> Path:
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-m", "models", "export", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise ExportError(
            f"the export to ONNX failed ({reason}). It needs TensorFlow. Nothing is lost: with "
            f"TensorFlow, `python -m models train --resume {folder}` finishes the training, and "
            f"`python -m models export {folder}` exports a finished one"
        )
    return folder / ONNX_MODEL
