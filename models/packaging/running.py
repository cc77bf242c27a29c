"""Run ONNX files on images with ONNX Runtime. Needs no Keras."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.cards import ONNX_MODEL
from models.data.datasets import Images, scaled
from models.data.storage import parts
from models.packaging.scoring import Logits

_BATCH = 500


def onnx_logits(folder: Path, images: Images, file: str = ONNX_MODEL) -> Logits:
    """Return the outputs of an ONNX `file` for uint8 images: float32 (N, classes)."""
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

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def _answers(session: Any, images: npt.NDArray[np.float32]) -> Logits:
    """Return the outputs of `session` for images in 0..1, `_BATCH` at a time."""
    name = session.get_inputs()[0].name
    parts = [
        session.run(None, {name: images[start : start + _BATCH]})[0]
        for start in range(0, len(images), _BATCH)
    ]
    return np.concatenate(parts)
