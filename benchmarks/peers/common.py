"""The code that all peers share: decode a PNG, open the model, make the answer."""

import io
import os

import numpy as np
from PIL import Image

WORKERS = 2


def pixels_of(png: bytes) -> np.ndarray:
    """Return a PNG as float32 (1, height, width, channels) in 0..1."""
    pixels = np.asarray(Image.open(io.BytesIO(png)), np.float32) / 255
    return (pixels if pixels.ndim == 3 else pixels[..., None])[None]


def open_onnx():
    """Return the network as a function from pixels to logits (N, classes), on one thread."""
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
    """Return the most probable class and its probability."""
    powers = np.exp(logits[0] - logits[0].max())
    best = int(powers.argmax())
    return {"label": best, "probability": float(powers[best] / powers.sum())}
