"""Pictures made to be costly or odd are prepared in bounded time and memory, or refused."""

import time
import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.errors import RequestError
from app.images.readings import read
from models.cards import ImageInput

DIGIT = ImageInput(28, 28, 1, "digit", (0.0,), (1.0,))
GARMENT = ImageInput(28, 28, 1, "garment", (0.0,), (1.0,))
MOST_S = 0.5  # of processor time; a tenth of it is usual
MOST_MIB = 64


def white(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width), 255, np.uint8)


def pictures() -> dict[str, NDArray[np.uint8]]:
    """Return structured pictures by name, (height, width)."""
    made = {}
    made["stripes and dots"] = white(84, 84)
    made["stripes and dots"][1:21:2] = 0
    made["stripes and dots"][9:59:2, 30:80:2] = 0
    made["rectangles"] = white(84, 84)
    made["rectangles"][1:83, 1:41] = made["rectangles"][1:83, 43:83] = 0
    for side, step in ((84, 2), (84, 3), (168, 4), (336, 8)):
        made[f"dots {side} {step}"] = white(side, side)
        made[f"dots {side} {step}"][::step, ::step] = 0
        made[f"stripes {side} {step}"] = white(side, side)
        made[f"stripes {side} {step}"][::step] = 0
        checker = np.indices((side, side)).sum(0) // step % 2 * 255
        made[f"checker {side} {step}"] = checker.astype(np.uint8)
        noise = np.random.default_rng(side).integers(0, 2, (side, side)) * 255
        made[f"random {side} {step}"] = noise.astype(np.uint8)
    for height, width in ((5, 1700), (199999, 5), (9, 100000)):
        made[f"thin {width}x{height}"] = white(height, width)
        made[f"thin {width}x{height}"][height // 2, width // 2] = 0
    return made


PICTURES = pictures()


def prepare(name: str, target: ImageInput) -> None:
    """Make all readings; a refusal is an answer, any other error is none."""
    try:
        prepared = read(Image.fromarray(PICTURES[name]), target)
        assert prepared.first is not None
        assert prepared.others is not None
    except RequestError as error:
        if not 400 <= error.status < 500:
            raise


@pytest.mark.parametrize("target", [DIGIT, GARMENT], ids=["digit", "garment"])
@pytest.mark.parametrize("name", PICTURES)
def test_preparing_any_picture_costs_little(name: str, target: ImageInput) -> None:
    began = time.process_time()
    prepare(name, target)
    assert time.process_time() - began < MOST_S
    tracemalloc.start()
    try:
        prepare(name, target)
        assert tracemalloc.get_traced_memory()[1] < MOST_MIB * 2**20
    finally:
        tracemalloc.stop()
