"""Errors that a worker answers itself, without the application."""

from app.errors import TOO_BUSY as TOO_BUSY
from app.errors import TOO_SLOW as TOO_SLOW
from app.errors import RequestError
from app.server.connection import MOST_CHUNKS

TOO_CHOPPED = RequestError(
    413,
    "too_many_chunks",
    f"The body has more than {MOST_CHUNKS} chunks. Send larger chunks.",
    limit=MOST_CHUNKS,
)
INCOMPLETE = RequestError(400, "incomplete_request", "The request ended before it was complete.")
NO_HOST = RequestError(
    400, "missing_host", "The request has no Host header, which HTTP/1.1 requires. Add one."
)
CODED = RequestError(
    501,
    "unsupported_transfer_coding",
    "Transfer-Encoding: only chunked is supported. Send a compressed body with "
    "Content-Encoding: gzip.",
)
