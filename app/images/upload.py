"""One image as it was sent, and the words for it in messages."""

from dataclasses import dataclass
from typing import Any

from app.errors import RequestError


@dataclass(frozen=True)
class Upload:
    """One image as it was sent."""

    data: bytes
    filename: str | None  # as the caller wrote it, cut: for messages and answers only
    problem: RequestError | None = None  # why `data` could not be read; it is empty then


def describe(index: int, upload: Upload, count: int) -> str:
    """The beginning of a message about one of `count` images."""
    name = f" ({quote(upload.filename)})" if upload.filename else ""
    return f"Image {index + 1} of {count}{name}" if count > 1 else f"The image{name}"


def place(index: int, upload: Upload) -> dict[str, Any]:
    """Which image of a request an error is about: `index` counts from 0, as `predictions` does."""
    return {"index": index} | ({"filename": upload.filename} if upload.filename else {})


def locate(error: RequestError, index: int, upload: Upload, count: int) -> RequestError:
    """Return `error` with the image that it is about: number `index` of `count`, from 0."""
    message = error.message if count == 1 else f"{describe(index, upload, count)}: {error.message}"
    details = {**place(index, upload), **error.details}
    return RequestError(error.status, error.code, message, **details)


def quote(text: str | None) -> str:
    """Words of the caller, shortened for a message."""
    return repr(text if text is None or len(text) <= 60 else text[:57] + "...")
