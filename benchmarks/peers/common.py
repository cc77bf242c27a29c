"""What each peer is given: a PNG's way to an array, the model, and the answer."""

import io
import os

import numpy as np
from PIL import Image

WORKERS = 2


def pixels_of(png: bytes) -> np.ndarray:
    """float32 (1, height, width, channels) in 0..1."""
    pixels = np.asarray(Image.open(io.BytesIO(png)), np.float32) / 255
    return (pixels if pixels.ndim == 3 else pixels[..., None])[None]


def open_onnx():
    """The network as a function from such arrays to logits (N, classes), on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.environ["MODEL_ONNX"], options)
    name = session.get_inputs()[0].name
    return lambda pixels: session.run(None, {name: pixels})[0]


def open_keras():
    import keras

    return keras.saving.load_model(os.environ["MODEL_KERAS"], compile=False)


def answer(logits: np.ndarray) -> dict[str, object]:
    """The class and its probability."""
    powers = np.exp(logits[0] - logits[0].max())
    best = int(powers.argmax())
    return {"label": best, "probability": float(powers[best] / powers.sum())}
