"""Compressed request bodies, decoded within the limit that holds for uncompressed ones."""

import zlib
from io import BytesIO
from typing import Any

from flask import Flask, request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wsgi import get_input_stream

from app.errors import RequestError

_CHUNK = 64 * 1024  # bytes read at once
# zlib's window sizes: gzip's format, and zlib's own, which HTTP calls deflate (RFC 9110 8.4.1.2).
_ENCODINGS = {
    "gzip": zlib.MAX_WBITS | 16,
    "x-gzip": zlib.MAX_WBITS | 16,
    "deflate": zlib.MAX_WBITS,
}

# gzip files may be joined. Programs that compress in parallel make blocks of at least 64 KiB. An
# empty gzip file takes 20 bytes to send and more time to decode than a block of pixels.
MOST_MEMBERS = 1_000


def read_compressed_bodies(app: Flask) -> None:
    """Decode the body of every request to `app` that has a Content-Encoding."""
    app.before_request(_decode_body)


def _decode_body() -> None:
    """Replace the request's body by the decoded one.

    Raises RequestError 400 for a broken body, 413 for too many joined gzip files, and 415 for
    another encoding. werkzeug raises its own 413 for too many bytes.
    """
    environment = request.environ
    encoding = environment.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    if encoding in ("", "identity"):
        return
    if encoding not in _ENCODINGS:
        message = f"Content-Encoding: expected gzip or deflate, found {encoding[:40]!r}."
        raise RequestError(415, "unsupported_content_encoding", message)
    limit = request.max_content_length or 0
    stream = get_input_stream(environment, max_content_length=limit)
    try:
        body = decode(stream, encoding, limit)
    except zlib.error as error:
        message = f"The body is not {encoding}, or it is incomplete."
        raise RequestError(400, "bad_compression", message) from error
    # From here on, the request looks as if it had come uncompressed.
    environment["wsgi.input"] = BytesIO(body)
    environment["CONTENT_LENGTH"] = str(len(body))
    environment.pop("HTTP_TRANSFER_ENCODING", None)
    del environment["HTTP_CONTENT_ENCODING"]


def decode(stream: Any, encoding: str, limit: int) -> bytes:
    """Return the decoded bytes of `stream`, at most `limit`.

    Raises RequestEntityTooLarge as soon as there are more, RequestError 413 for more than
    MOST_MEMBERS joined gzip files, and zlib.error if the stream is broken or incomplete.
    """
    data = stream.read(_CHUNK)
    decoder = zlib.decompressobj(_ENCODINGS[encoding])
    parts, size, members = [], 0, 1
    while True:
        # One byte more than the limit is enough to know that the body is too large.
        part = decoder.decompress(data, limit + 1 - size)
        if part:
            parts.append(part)
        size += len(part)
        if size > limit:
            raise RequestEntityTooLarge
        data = decoder.unconsumed_tail or decoder.unused_data or stream.read(_CHUNK)
        if not data:
            break
        if decoder.eof:
            if encoding == "deflate":
                raise zlib.error("more than one stream")
            members += 1
            if members > MOST_MEMBERS:
                message = f"The body is more than {MOST_MEMBERS} joined gzip files. Send one."
                raise RequestError(413, "too_many_members", message, limit=MOST_MEMBERS)
            decoder = zlib.decompressobj(_ENCODINGS[encoding])
    if not decoder.eof:
        raise zlib.error("ends early")
    return b"".join(parts)
