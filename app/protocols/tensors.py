"""Tensors as people send them -> what a network takes, and what it answers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.catalogue.catalogue import Model
from app.errors import RequestError, check_number
from app.predict.inference import Outcome, infer
from app.telemetry.record import note_answer, timed
from models.cards import ImageInput

# An image is sent as its data set stores it: whole numbers 0..255, or the same over 255.
DATATYPES = {"UINT8": "u1", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}


def most_values(target: ImageInput, images: int) -> int:
    """The most values that the JSON of so many images may hold: see app/web/json.py."""
    rows, pixels = target.height, target.height * target.width
    # Each number, and each list around it: the channels may have one of their own, or none.
    return 256 + images * (pixels * (target.channels + 2) + 2 * rows + 8)


@timed("decode")
def from_json(data: Any, shape: tuple[int, ...] | None, datatype: str) -> NDArray[Any]:
    """The tensor of nested or flat JSON lists, in `shape` where one is given.

    Raises RequestError 400 where the lists are ragged, hold something other than numbers of
    `datatype`, or do not fill `shape`.
    """
    # Asked first: numpy makes room for each text in an array as if all were as long as the longest.
    if not _types_in(data) <= {int, float}:
        raise _bad_data("The tensor holds something other than numbers.")
    try:
        found = np.array(data)
    except (ValueError, OverflowError):
        raise _bad_data("The tensor's lists are not all of the same length.") from None
    if found.dtype.kind not in "iuf" and found.size:
        raise _bad_data("The tensor holds something other than numbers.")
    if datatype == "UINT8" and not _are_bytes(found):
        raise _bad_data("The tensor's UINT8 values must be whole numbers from 0 to 255.")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
        return _reshape(found.astype(DATATYPES[datatype]), shape)


@timed("decode")
def from_bytes(data: bytes, shape: tuple[int, ...], datatype: str) -> NDArray[Any]:
    """The little-endian, row-major tensor in `data`. Raises RequestError 400."""
    dtype = np.dtype(DATATYPES[datatype])
    if len(data) % dtype.itemsize:
        raise _bad_data(f"{len(data)} bytes are no whole number of {datatype} values.")
    return _reshape(np.frombuffer(data, dtype), shape)


@timed("prepare")
def network_input(values: NDArray[Any], target: ImageInput, limit: int) -> NDArray[np.float32]:
    """`values` as float32 (N, height, width, channels) in 0..1.

    They are uint8 in 0..255 or floats in 0..1, of shape (N, height, width, channels), or without
    the last axis where the images are grey. Raises RequestError 400 for another shape or range,
    413 for more than `limit` images.
    """
    image = (target.height, target.width, target.channels)
    shapes = [image, image[:2]] if target.channels == 1 else [image]
    if values.ndim == 0 or values.shape[1:] not in shapes or len(values) == 0:
        expected = " or ".join(str([-1, *shape]) for shape in shapes)
        message = f"Expected images of shape {expected}, found {list(values.shape)}."
        raise RequestError(400, "bad_shape", message)
    check_number(len(values), limit)
    pixels = values.reshape(-1, *image).astype(np.float32)
    if values.dtype == np.uint8:
        return pixels / np.float32(255)
    if not (pixels.min() >= 0 and pixels.max() <= 1):  # so that NaN is refused too
        message = "Pixels sent as floats are from 0 to 1, and as UINT8 from 0 to 255."
        raise RequestError(400, "bad_range", message)
    return pixels


def ask(model: Model, pixels: NDArray[np.float32]) -> Outcome:
    """What `model` makes of `pixels`, float32 (N, height, width, channels) in 0..1."""
    outcome = infer(model.network, pixels, model.calibration)
    note_answer(model, outcome)
    return outcome


def _types_in(data: Any) -> set[type]:
    """The types of what stands in nested lists."""
    types, left = set(), [[data]]
    while left:
        row = left.pop()
        found = set(map(type, row))
        if list in found:
            left += [item for item in row if type(item) is list]
        types |= found
    return types - {list}


def _are_bytes(values: NDArray[Any]) -> bool:
    if values.size == 0:
        return True
    whole = values.dtype.kind in "iu" or bool(np.all(values == np.floor(values)))
    return whole and bool(values.min() >= 0 and values.max() <= 255)


def _reshape(values: NDArray[Any], shape: tuple[int, ...] | None) -> NDArray[Any]:
    if shape is None or values.shape == shape:
        return values
    try:
        return values.reshape(shape)
    except ValueError:
        message = f"The tensor has {values.size} values, which do not fill the shape {list(shape)}."
        raise RequestError(400, "bad_shape", message) from None


def _bad_data(message: str) -> RequestError:
    return RequestError(400, "bad_tensor", message)
