"""The Open Inference Protocol's bodies: JSON, followed by binary tensors if there are any."""

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import RequestError
from app.protocols import tensors
from app.telemetry.record import timed
from app.web.body import read_object

HEADER_LENGTH = "Inference-Header-Content-Length"
MOST_ID = 1024  # characters of a request's id, which the answer repeats
MOST_AXES = 8  # axes of a tensor, whose shape an error message repeats
EXPECTED = '{"inputs": [{"name", "shape", "datatype", "data"}]}'


@dataclass(frozen=True)
class Wanted:
    """An output that a caller asks for."""

    name: str
    binary: bool
    classes: int  # classification extension: this many best classes; 0 asks for the tensor


@dataclass(frozen=True)
class Question:
    """An inference request."""

    identifier: str | None
    images: NDArray[Any]  # with the datatype and the shape that were sent
    wanted: tuple[Wanted, ...]


@dataclass(frozen=True)
class Output:
    """A tensor of an answer. Its datatype is BYTES if its values are texts."""

    name: str
    datatype: str  # FP32, BOOL or BYTES
    values: NDArray[Any]
    binary: bool


def decode(
    body: bytes,
    header_length: str | None,
    name: str,
    image: tuple[int, int, int],
    outputs: tuple[str, ...],
    most_values: int,
) -> Question:
    """Return the request in `body`, for a model with the input `name` and the named `outputs`.

    `header_length` is the value of the header HEADER_LENGTH: the number of bytes of JSON, of which
    at most `most_values` values are read. If it is 0, the body is the input itself, as FP32 images
    of (height, width, channels), and all outputs are answered in binary. Raises RequestError 400,
    and 413 for more values.
    """
    head, tail = _split(body, header_length)
    if header_length is not None and not head:
        images = tensors.from_bytes(tail, (-1, *image), "FP32")
        return Question(None, images, tuple(Wanted(output, True, 0) for output in outputs))
    content = read_object(head, EXPECTED, most_values)
    identifier = content.get("id")
    if identifier is not None and not (isinstance(identifier, str) and len(identifier) <= MOST_ID):
        raise _bad(f"id: expected a string of at most {MOST_ID} characters.")
    return Question(
        identifier,
        _read_input(content.get("inputs"), name, None if header_length is None else tail),
        _read_outputs(content, outputs),
    )


@timed("answer")
def encode(answer: dict[str, Any], outputs: list[Output]) -> tuple[bytes, int | None]:
    """Return the body of `answer` with `outputs`, and the length of its JSON.

    The length is None if no binary data follows the JSON.
    """
    described, blobs = [], []
    for output in outputs:
        row: dict[str, Any] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(output.values.shape),
        }
        if output.binary:
            blobs.append(_to_bytes(output))
            row["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            row["data"] = output.values.ravel().tolist()
        described.append(row)
    content = {**answer, "outputs": described}
    head = _encode(content).encode()
    return b"".join([head, *blobs]), len(head) if blobs else None


# Made once: making an encoder takes longer than encoding a small answer.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _split(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    if header_length is None:
        return body, b""
    # At most eleven digits: Python converts very long numbers slowly.
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 12):
        raise _bad(f"{HEADER_LENGTH}: expected a whole number, found {header_length[:40]!r}.")
    length = int(header_length)
    if length > len(body):
        raise _bad(f"{HEADER_LENGTH}: the body has {len(body)} bytes, fewer than {length}.")
    return body[:length], body[length:]


def _read_input(inputs: Any, name: str, blob: bytes | None) -> NDArray[Any]:
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise _bad(f"inputs: expected a list of one tensor, {name!r}.")
    (tensor,) = inputs
    if tensor.get("name") != name:
        found = str(tensor.get("name"))[:40]
        raise _bad(f"There is no input {found!r}; the model's input is {name!r}.")
    datatype, shape = tensor.get("datatype"), tensor.get("shape")
    if not isinstance(datatype, str) or datatype not in tensors.DATATYPES:
        known = ", ".join(tensors.DATATYPES)
        raise _bad(f"datatype: expected one of {known}, found {str(datatype)[:40]!r}.")
    if (
        not isinstance(shape, list)
        or len(shape) > MOST_AXES
        or not all(_is_size(size) for size in shape)
    ):
        raise _bad(f"shape: expected a list of at most {MOST_AXES} whole numbers.")
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        if "data" not in tensor:
            raise _bad(f"The input {name!r} has neither data nor a binary_data_size.")
        return tensors.from_json(tensor["data"], tuple(shape), datatype)
    if blob is None:
        raise _bad(f"Binary data needs the header {HEADER_LENGTH}.")
    if size != len(blob):
        raise _bad(f"binary_data_size is {str(size)[:20]}, but {len(blob)} bytes follow the JSON.")
    return tensors.from_bytes(blob, tuple(shape), datatype)


def _read_outputs(content: dict[str, Any], known: tuple[str, ...]) -> tuple[Wanted, ...]:
    """Return the outputs that the caller asks for: all outputs if none is named."""
    binary = bool(_parameters(content).get("binary_data_output", False))
    outputs = content.get("outputs") or [{"name": name} for name in known]
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise _bad('outputs: expected a list of {"name"}.')
    if len(outputs) > len(known):
        raise _bad("outputs: an output can be asked for only once.")
    wanted = []
    for output in outputs:
        name, parameters = output.get("name"), _parameters(output)
        if name not in known:
            listed = ", ".join(known)
            raise _bad(f"There is no output {str(name)[:40]!r}; there are: {listed}.")
        if "shared_memory_region" in parameters:
            raise _bad("The shared memory extension is not supported.")
        classes = parameters.get("classification", 0)
        if not _is_size(classes) or (classes and name != known[0]):
            raise _bad(f"classification: expected a number of classes, for {known[0]} only.")
        wanted.append(Wanted(name, bool(parameters.get("binary_data", binary)), classes))
    if len({one.name for one in wanted}) < len(wanted):
        raise _bad("outputs: an output can be asked for only once.")
    return tuple(wanted)


def _parameters(thing: dict[str, Any]) -> dict[str, Any]:
    parameters = thing.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise _bad("parameters: expected an object.")
    return parameters


def _is_size(number: Any) -> bool:
    # In Python, True and False are whole numbers too.
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**31


def _to_bytes(output: Output) -> bytes:
    if output.datatype == "BYTES":
        texts = [text.encode() for text in output.values.ravel().tolist()]
        # A text is preceded by its length, 4 bytes in little-endian order.
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    little = {"FP32": "<f4", "BOOL": "?"}[output.datatype]
    return np.ascontiguousarray(output.values, little).tobytes()


def _bad(message: str) -> RequestError:
    return RequestError(400, "bad_inference_request", message)
