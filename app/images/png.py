"""The image that a network received, as a picture for people."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def as_image(pixels: NDArray[np.float32]) -> Image.Image:
    """Return `pixels`, (height, width, 1 or 3) in 0..1, as a picture of mode "L" or "RGB"."""
    values = np.clip(pixels * 255 + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)


def png_text(pixels: NDArray[np.float32]) -> str:
    """Return `pixels`, (height, width, 1 or 3) in 0..1, as a PNG in base64."""
    buffer = io.BytesIO()
    as_image(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
