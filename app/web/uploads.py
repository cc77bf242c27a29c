"""The `read` stage: from an HTTP request to the bytes of its images."""

import base64
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import flask

from app.errors import RequestError, check_number
from app.images.upload import Upload, quote
from app.telemetry.record import timed
from app.web.body import read_json, values_of_files, whole_body
from app.web.multipart import Part, read_form

FILE = "file"
SAMPLE = "sample"
_FORM_BYTES = 64 * 1024  # of a form that carries no file: a sample's name needs no more
_MOST_NAME = 255  # characters of a file name in an answer, as most file systems allow
_BLANKS = b" \t\r\n\v\f"
_LOOKS_LIKE_JSON = re.compile(rb"(\xef\xbb\xbf)?\s*[{\[]")  # a byte order mark is read over
_LOOKS_LIKE_FORM = re.compile(rb"--[^\r\n]{1,70}\r?\nContent-Disposition: *form-data", re.I)


@timed("read")
def read_uploads(
    request: flask.Request, samples: Mapping[str, bytes], max_images: int
) -> list[Upload]:
    """The request's images: one or more, or the sample that it names where it carries none.

    Understands multipart with a field `file`, a raw image as the body, and JSON with base64.
    Raises RequestError 400 for what cannot be read, 413 for too many images, 415 for another
    content type; werkzeug raises its own 413 for too many bytes.
    """
    uploads, sample = _read_body(request, max_images)
    sample = sample or request.args.get(SAMPLE, "")
    if not uploads and sample:
        uploads = [_sample(sample, samples)]
    if not uploads:
        raise RequestError(
            400, "missing_image", f"There is no image in the request. {_how(request)}"
        )
    check_number(len(uploads), max_images)
    return uploads


def _read_body(request: flask.Request, max_images: int) -> tuple[list[Upload], str]:
    """The images in the body, and the sample that it names."""
    # As request.mimetype has it, which also reads the boundary that read_form reads.
    kind = (request.content_type or "").partition(";")[0].strip(" \t").lower()
    if kind == "multipart/form-data":
        body = whole_body(request)
        return _read_fields(request, read_form(request.content_type or "", body) if body else [])
    if kind == "application/json":
        return _read_json(_no_form(request), max_images), ""
    if kind.startswith("image/") or kind == "application/octet-stream":
        data = _no_form(request)
        return [Upload(data, None)] if data else [], ""
    if kind == "application/x-www-form-urlencoded":
        body = whole_body(request)
        if _LOOKS_LIKE_JSON.match(body):  # what `curl -d` sends: curl calls it a form
            return _read_json(body, max_images), ""
        return _read_fields(request, _read_urlencoded(request, body))
    if kind or request.stream.read(1):
        raise _unsupported(request)
    return [], ""


def _no_form(request: flask.Request) -> bytes:
    """The whole body. Raises RequestError where it is a form, whatever its Content-Type says."""
    body = whole_body(request)
    if _LOOKS_LIKE_FORM.match(body):
        raise RequestError(
            400,
            "bad_form",
            f"The body is a form, and its Content-Type says {quote(request.mimetype)}. Leave that "
            f"header to the client, which knows the form's boundary. {_how(request)}",
        )
    return body


def _read_fields(request: flask.Request, fields: list[Part]) -> tuple[list[Upload], str]:
    """The images in the fields of a form, and the sample that it names."""
    if wrong := [field.name for field in fields if field.name not in (FILE, SAMPLE)]:
        wrong = [name[:_MOST_NAME] for name in dict.fromkeys(wrong)][:5]
        raise RequestError(
            400,
            "unknown_field",
            f"Unknown form field {', '.join(map(quote, wrong))}: the image belongs into the field "
            f"`file`, and options such as rule and top into the URL. {_how(request)}",
            fields=wrong,
        )
    # Browsers send a file field without a choice as a file with neither name nor content.
    fields = [field for field in fields if field.filename or field.data]
    if any((field.name == FILE) == (field.filename is None) for field in fields):
        raise RequestError(
            400,
            "not_a_file",
            f"The field `file` must be a file and `sample` a name: in curl an @ makes the "
            f"difference. {_how(request)}",
        )
    files = [
        Upload(field.data, (field.filename or "")[:_MOST_NAME] or None)
        for field in fields
        if field.name == FILE
    ]
    samples = [field.data for field in fields if field.name == SAMPLE]
    return files, samples[0].decode(errors="replace") if samples else ""


def _read_urlencoded(request: flask.Request, body: bytes) -> list[Part]:
    """The fields of a form that can carry no file."""
    try:
        pairs = parse_qsl(body.decode() if len(body) <= _FORM_BYTES else "")
    except UnicodeDecodeError:
        # What `curl --data-binary @image.png` sends: curl calls it a form.
        raise _unsupported(request) from None
    return [Part(name, None, value.encode()) for name, value in pairs]


def _read_json(body: bytes, max_images: int) -> list[Upload]:
    content = read_json(body, _JSON, values_of_files(max_images))
    match content:
        case {"image": str() as text, **others} if not others:
            texts: list[Any] = [text]
        case {"images": list() as texts, **others} if not others:
            pass
        case _:
            raise RequestError(400, "bad_json", f"The JSON is not of the known form. {_JSON}")
    check_number(len(texts), max_images)  # before they are decoded
    return [_from_base64(text) for text in texts]


def _from_base64(text: Any) -> Upload:
    if not isinstance(text, str):
        problem = RequestError(400, "bad_base64", f"The image is not a string. {_JSON}")
        return Upload(b"", None, problem)
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        # Line breaks are what command-line encoders add; anything else that is foreign is refused.
        data = base64.b64decode(encoded.encode("ascii").translate(None, _BLANKS), validate=True)
    except ValueError as error:
        message = f"The image is not base64 ({error}). {_JSON}"
        return Upload(b"", None, RequestError(400, "bad_base64", message))
    return Upload(data, None)


def _sample(name: str, samples: Mapping[str, bytes]) -> Upload:
    if name not in samples:
        known = ", ".join(samples) or "none"
        raise RequestError(
            400,
            "unknown_sample",
            f"There is no sample {quote(name)}; there are: {known}.",
            samples=list(samples),
        )
    return Upload(samples[name], f"{name}.png")


def _unsupported(request: flask.Request) -> RequestError:
    kind = quote(request.mimetype) if request.mimetype else "no content type"
    return RequestError(
        415,
        "unsupported_media_type",
        f"An image cannot be read from {kind}: send multipart/form-data, image/*, "
        f"application/octet-stream or application/json. {_how(request)}",
    )


_JSON = 'Expected {"image": "<base64>"} or {"images": ["<base64>", ...]}.'


def _how(request: flask.Request) -> str:
    return f"For example: curl -F file=@image.png {request.base_url}"
