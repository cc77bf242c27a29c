"""Multipart forms, as browsers, curl and HTTP libraries write them.

`read_form` first tries the form that nearly every client sends, at once and from memory. werkzeug's
decoder accepts a body in pieces and in every valid form, but for a picture of some hundred bytes it
took a fifth of the request's time. It decodes whatever differs from the usual form.
"""

import re
from typing import NamedTuple

from werkzeug.datastructures import Headers
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, Preamble

from app.errors import RequestError

_TYPE = re.compile(
    r"""multipart/form-data; ?boundary=(?:"([\w'+./:=?-]{1,70})"|([\w+.-]{1,70}))""", re.ASCII
)
# RFC 7578: a name, perhaps a file name, perhaps a type. Escapes differ between clients, so they are
# left to werkzeug's decoder.
_HEAD = re.compile(
    rb'\r\nContent-Disposition: form-data; name="([\w.-]+)"(?:; filename="([^"\\%\r\n\x00]*)")?'
    rb"(?:\r\nContent-Type: [\w+./-]+)?\r\n\r\n",
    re.IGNORECASE,
)

MOST_PARTS = 10_001  # the largest METAPLASTIC_MAX_IMAGES, and a sample
_MOST_TEXT = 500_000  # bytes that werkzeug's decoder may buffer: a preamble, the head of a part
_PIECE = 64 * 1024  # bytes that the decoder gets at once


class Part(NamedTuple):
    """One field of a form."""

    name: str
    filename: str | None  # None if the field is not a file
    data: bytes


def read_form(content_type: str, body: bytes) -> list[Part]:
    """Return the fields of the form in `body`.

    Raises RequestError 400 with the cause if it cannot be read, and 413 for too many fields.
    """
    parts = parts_of(content_type, body)
    return decode_form(content_type, body) if parts is None else parts


def parts_of(content_type: str, body: bytes) -> list[Part] | None:
    """Return the fields of the form in `body`, or None if it does not have the usual form."""
    declared = _TYPE.fullmatch(content_type)
    if not declared:
        return None
    delimiter = b"--" + (declared[1] or declared[2]).encode()
    if not body.startswith(delimiter) or not body.endswith((b"--\r\n", b"--")):
        return None
    parts: list[Part] = []
    position, separator = len(delimiter), b"\r\n" + delimiter
    # Each part: the delimiter, the head, the data, and then the next delimiter.
    while len(parts) < MOST_PARTS and (head := _HEAD.match(body, position)) is not None:
        end = body.find(separator, head.end())
        if end < 0:
            return None
        filename = None if head[2] is None else _text(head[2])
        parts.append(Part(head[1].decode(), filename, body[head.end() : end]))
        position = end + len(separator)
    return parts if body[position:] in (b"--\r\n", b"--") else None


def decode_form(content_type: str, body: bytes) -> list[Part]:
    """Return the fields of the form in `body`, in any valid form. Raises RequestError."""
    boundary = _boundary(content_type, body)
    try:
        return _decode(_Decoder(boundary, _MOST_TEXT, max_parts=MOST_PARTS), body)
    except RequestEntityTooLarge:
        message = (
            f"The form has more than {MOST_PARTS} fields, or more than {_MOST_TEXT} bytes of text "
            "around them. Send fewer files, and no other fields."
        )
        raise RequestError(413, "form_too_large", message, limit=MOST_PARTS) from None
    except ValueError:
        raise _bad_form(
            "A field of the form has no readable headers. Headers begin with a line such as "
            'Content-Disposition: form-data; name="file"; filename="image.png" and end with an '
            "empty line."
        ) from None


def _boundary(content_type: str, body: bytes) -> bytes:
    """Return the form's boundary. Raises RequestError 400."""
    named = parse_options_header(content_type)[1].get("boundary", "")
    boundary = named.encode("latin-1", "replace")
    if not boundary:
        raise _bad_form(f"The form's Content-Type has no boundary. {_ADVICE}")
    if b"--" + boundary not in body:
        raise _bad_form(
            f"The boundary {named[:70]!r} of the Content-Type is not in the body. {_ADVICE}"
        )
    if b"--" + boundary + b"--" not in body:
        raise _bad_form(
            f"The form is incomplete: its last line, '--{named[:70]}--', is missing. Send the "
            "whole form, and its length as Content-Length."
        )
    return boundary


_ADVICE = (
    "Do not set this header yourself: your HTTP library sets it, with the boundary, when it makes "
    "the form."
)


class _Decoder(MultipartDecoder):
    """werkzeug's decoder, which here also accepts a part's headers in Latin-1."""

    def _parse_headers(self, data: bytes | bytearray) -> Headers:
        return super()._parse_headers(_text(bytes(data)).encode())


def _decode(decoder: MultipartDecoder, body: bytes) -> list[Part]:
    parts: list[Part] = []
    name, filename = "", None
    pieces: list[bytes] = []
    position = 0
    decoder.receive_data(body[:_PIECE])
    while not isinstance(event := decoder.next_event(), Epilogue):
        match event:
            case Preamble():
                continue
            case File() | Field():
                name, filename = event.name or "", getattr(event, "filename", None)
                pieces = []
            case Data():
                pieces.append(event.data)
                if not event.more_data:
                    parts.append(Part(name, filename, b"".join(pieces)))
            case _:  # the decoder needs more data
                position += _PIECE
                piece = body[position : position + _PIECE]
                decoder.receive_data(piece or None)
    return parts


def _text(head: bytes) -> str:
    """Return the head of a part as text: UTF-8, or Latin-1 as older clients write it."""
    try:
        return head.decode()
    except UnicodeDecodeError:
        return head.decode("latin-1")


def _bad_form(message: str) -> RequestError:
    return RequestError(400, "bad_form", message)
