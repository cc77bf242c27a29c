"""The exception that ends a request, and its JSON."""

import json
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from app.headers import DATA_POLICY, SECURITY

RETRY_AFTER = "1"  # seconds, sent with every 429 and 503


class RequestError(Exception):
    """A request that cannot be answered: what was wrong, what was expected, what to do.

    `status` is the HTTP status, `code` a short name for programs (`not_an_image`), `message` the
    sentence for people, `details` further fields of the answer, such as the index of the image or a
    limit.
    """

    def __init__(self, status: int, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details

    def body(self) -> dict[str, Any]:
        """Return the answer's JSON."""
        return {"message": self.message, "code": self.code, **self.details}

    def again(self) -> "RequestError":
        """Return an equal error, to be raised in place of one that is kept.

        A raised error holds the frames that it passed, and so the bytes of the request. A kept
        error would hold them as long as it lives, and more frames each time that it is raised.
        """
        return RequestError(self.status, self.code, self.message, **self.details)


# Answers that a worker gives without calling the application.
TOO_BUSY = RequestError(503, "too_busy", "Too many requests are waiting. Try again.")
TOO_SLOW = RequestError(
    408, "too_slow", "The request took too long to arrive. Send it faster, or send less."
)


def too_large(mebibytes: int) -> RequestError:
    """Return the refusal of a request with more than `mebibytes` MiB."""
    message = (
        f"The request is too large: at most {mebibytes} MiB are accepted. Send fewer or smaller "
        "images."
    )
    return RequestError(413, "request_too_large", message, limit=mebibytes * 1024 * 1024)


def check_number(images: int, limit: int) -> None:
    """Raise RequestError 413 if a request has more than `limit` images."""
    if images > limit:
        expected = "one is" if limit == 1 else f"at most {limit} are"
        message = f"The request has {images} images; {expected} accepted at once."
        raise RequestError(413, "too_many_images", message, limit=limit)


def body_for(path: str, error: RequestError) -> dict[str, Any]:
    """Return the JSON of `error` for the protocol of `path`.

    Clients of /v1 and /v2 read the key "error".
    """
    return {"error": error.message} if is_standard(path) else error.body()


def is_standard(path: str) -> bool:
    """Return whether `path` belongs to a standard protocol."""
    return path == "/v2" or path.startswith(("/v1/", "/v2/"))


def http_bytes(error: RequestError, path: str = "") -> bytes:
    """Return `error` as a complete HTTP response, for requests that never reach Flask."""
    return _http_bytes(error.status, json.dumps(body_for(path, error)) + "\n")


@lru_cache(maxsize=64)
def _http_bytes(status: int, body: str) -> bytes:
    # The rest of the request may still be in the connection, which can therefore not be reused.
    headers = {
        "Connection": "close",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Content-Security-Policy": DATA_POLICY,
        **SECURITY,
    }
    if status in (429, 503):
        headers["Retry-After"] = RETRY_AFTER
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    first = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
    return f"{first}{lines}\r\n{body}".encode("ascii")
