"""Images as MNIST stores them, which the tests of the standard protocols send."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.images.decode import decode, prepare
from tests.e2e.conftest import ROOT

MODEL = "mnist-lenet-metaplastic"
SAMPLES = ROOT / "app" / "static" / "samples" / "mnist"
NAMES = ("three", "seven", "nine")
LABELS = [3, 7, 9]
# Its newest version, as published.
FOLDER = max((ROOT / "weights/mnist/lenet/metaplastic").iterdir(), key=lambda path: int(path.name))
VERSION = FOLDER.name


def as_bytes() -> NDArray[np.uint8]:
    """Three of the service's own digits, white on black: uint8 (3, 28, 28, 1)."""
    from models.cards import ImageInput

    target = ImageInput(28, 28, 1, "digit", (0.0,), (1.0,))
    prepared = [
        prepare(
            decode((SAMPLES / f"{name}.png").read_bytes(), max_pixels=10**6, smallest=(28, 28)),
            target,
            raw=False,
        ).first.pixels
        for name in NAMES
    ]
    return np.round(np.array(prepared) * 255).astype(np.uint8)


def as_floats() -> NDArray[np.float32]:
    """The same in 0..1."""
    return as_bytes().astype(np.float32) / 255


def png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0]).save(buffer, "PNG")
    return buffer.getvalue()
