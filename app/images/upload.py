"""An image as it was sent, and the parts of error messages that name it."""

from typing import Any, NamedTuple

from app.errors import RequestError


class Upload(NamedTuple):
    """An image as it was sent."""

    data: bytes
    filename: str | None  # the caller's name of it, shortened; only for messages and answers
    problem: RequestError | None = None  # why it could not be read; `data` is then empty


def describe(index: int, upload: Upload, count: int) -> str:
    """Return the beginning of a message about the image number `index` of `count`, from 0."""
    name = f" ({quote(upload.filename)})" if upload.filename else ""
    return f"Image {index + 1} of {count}{name}" if count > 1 else f"The image{name}"


def place(index: int, upload: Upload) -> dict[str, Any]:
    """Return the details of an error about the image number `index`, from 0 as in `predictions`."""
    return {"index": index} | ({"filename": upload.filename} if upload.filename else {})


def locate(error: RequestError, index: int, upload: Upload, count: int) -> RequestError:
    """Return `error` with the image that it is about: number `index` of `count`, from 0."""
    message = error.message if count == 1 else f"{describe(index, upload, count)}: {error.message}"
    details = {**place(index, upload), **error.details}
    return RequestError(error.status, error.code, message, **details)


def quote(text: str | None) -> str:
    """Return a caller's text in quotes, shortened to 60 characters for a message."""
    return repr(text if text is None or len(text) <= 60 else text[:57] + "...")
