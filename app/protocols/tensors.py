"""Tensors in requests and answers: decoding, checks, and inference."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.catalogue.catalogue import Model
from app.errors import RequestError, check_number
from app.predict.inference import Outcome, infer, record_outcome
from app.telemetry.record import timed
from models.cards import ImageInput

# numpy's name of each datatype. Pixels are 0..255 in UINT8, as data sets store them, and 0..1 in
# the others.
DATATYPES = {"UINT8": "u1", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}


def most_values(target: ImageInput, images: int) -> int:
    """Return the largest number of JSON values in a request with `images` images as numbers."""
    rows, pixels = target.height, target.height * target.width
    # Every number and every list counts. The channels may have a list of their own or not.
    return 256 + images * (pixels * (target.channels + 2) + 2 * rows + 8)


@timed("decode")
def from_json(data: Any, shape: tuple[int, ...] | None, datatype: str) -> NDArray[Any]:
    """Return the tensor in nested or flat JSON lists, in `shape` if one is given.

    Raises RequestError 400 if the lists are ragged, hold anything but numbers of `datatype`, or do
    not fill `shape`.
    """
    # Checked before numpy sees the data: it makes an array of texts as wide as the longest text.
    if not _types_in(data) <= {int, float}:
        raise _bad_data("The tensor holds values that are not numbers.")
    try:
        found = np.array(data)
    except (ValueError, OverflowError):
        raise _bad_data("The tensor's lists are not all of the same length.") from None
    if found.dtype.kind not in "iuf" and found.size:
        raise _bad_data("The tensor holds values that are not numbers.")
    if datatype == "UINT8" and not _are_bytes(found):
        raise _bad_data("The tensor's UINT8 values must be whole numbers from 0 to 255.")
    with np.errstate(over="ignore"):  # values that are too large become infinite and are refused
        return _reshape(found.astype(DATATYPES[datatype]), shape)


@timed("decode")
def from_bytes(data: bytes, shape: tuple[int, ...], datatype: str) -> NDArray[Any]:
    """Return the little-endian, row-major tensor in `data`. Raises RequestError 400."""
    dtype = np.dtype(DATATYPES[datatype])
    if len(data) % dtype.itemsize:
        raise _bad_data(f"{len(data)} bytes are not a whole number of {datatype} values.")
    return _reshape(np.frombuffer(data, dtype), shape)


@timed("prepare")
def network_input(values: NDArray[Any], target: ImageInput, limit: int) -> NDArray[np.float32]:
    """Return `values` as float32 (N, height, width, channels) in 0..1.

    `values` are uint8 in 0..255 or floats in 0..1, of shape (N, height, width, channels). Grey
    images may lack the last axis. Raises RequestError 400 for another shape or range, and 413 for
    more than `limit` images.
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
    if not (pixels.min() >= 0 and pixels.max() <= 1):  # also true for NaN
        message = "Expected pixels from 0 to 1 as floats, or from 0 to 255 as UINT8."
        raise RequestError(400, "bad_range", message)
    return pixels


def ask(model: Model, pixels: NDArray[np.float32]) -> Outcome:
    """Return the outcome of `model` for `pixels`, float32 (N, height, width, channels) in 0..1."""
    outcome = infer(model.network, pixels, model.card.calibration)
    record_outcome(model, outcome)
    return outcome


def _types_in(data: Any) -> set[type]:
    """Return the types of the values in nested lists."""
    # Iterative, since the nesting may be deeper than Python's recursion limit.
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
