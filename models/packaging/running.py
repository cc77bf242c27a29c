"""Run ONNX files on images with ONNX Runtime. Needs no Keras."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.cards import INT8_MODEL, ONNX_MODEL
from models.data.datasets import Images, scaled
from models.data.storage import parts
from models.packaging.scoring import Logits
from models.processor import multiplies_int8

_BATCH = 500


def onnx_logits(folder: Path, images: Images, file: str = ONNX_MODEL) -> Logits:
    """Return the outputs of an ONNX `file` for uint8 images: float32 (N, classes).

    An 8-bit file gives everywhere what it gives on a processor that multiplies 8-bit integers, but
    for rounding: other processors compute with the 8-bit values in floats.
    """
    session = _session(folder / file)
    return np.concatenate([_answers(session, scaled(part)) for part in parts(images)])


def onnx_answers(folder: Path, images: npt.NDArray[np.float32], file: str = ONNX_MODEL) -> Logits:
    """Return the outputs of an ONNX `file` for images in 0..1: float32 (N, classes)."""
    return _answers(_session(folder / file), images)


def _session(path: Path) -> Any:
    """Return a session of ONNX Runtime for the file at `path`."""
    # By default, ONNX Runtime sends usage data to its makers. This must be set before the import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if path.name == INT8_MODEL and not multiplies_int8():
        # Optimised, the file would be run in integers, whose sums overflow on these processors.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _answers(session: Any, images: npt.NDArray[np.float32]) -> Logits:
    """Return the outputs of `session` for images in 0..1, `_BATCH` at a time."""
    name = session.get_inputs()[0].name
    parts = [
        session.run(None, {name: images[start : start + _BATCH]})[0]
        for start in range(0, len(images), _BATCH)
    ]
    return np.concatenate(parts)
