"""The `read` stage: from an HTTP request to the bytes of its images."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from app.errors import RequestError, check_number
from app.images.upload import Upload, quote
from app.telemetry.record import timed
from app.web.body import AnyRequest, read_base64, read_json, url_of, values_of_files, whole_body
from app.web.multipart import Part, read_form

FILE = "file"
SAMPLE = "sample"
_FORM_BYTES = 64 * 1024  # the largest form without a file; it holds a sample's name only
_MOST_NAME = 255  # characters of a file name in an answer; most file systems allow no more
_LOOKS_LIKE_JSON = re.compile(rb"(\xef\xbb\xbf)?\s*[{\[]")  # after an optional byte order mark
_LOOKS_LIKE_FORM = re.compile(rb"--[^\r\n]{1,70}\r?\nContent-Disposition: *form-data", re.I)


@timed("read")
def read_uploads(
    request: AnyRequest, samples: Mapping[str, bytes], max_images: int
) -> list[Upload]:
    """Return the request's images, or the sample that it names if it has no image.

    The body may be a multipart form with the field `file`, a single image, or JSON with base64.
    Raises RequestError 400 if the body cannot be read, 413 for too many images, and 415 for another
    content type. werkzeug raises its own 413 for too many bytes.
    """
    uploads, sample = _read_body(request, max_images)
    if not uploads and (sample := sample or request.args.get(SAMPLE, "")):
        uploads = [_sample(sample, samples)]
    if not uploads:
        raise missing_image(url_of(request))
    check_number(len(uploads), max_images)
    return uploads


def _read_body(request: AnyRequest, max_images: int) -> tuple[list[Upload], str]:
    """Return the images in the body and the name of the sample in it, or ""."""
    # Like request.mimetype, which would also parse the boundary that read_form parses.
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
        if _LOOKS_LIKE_JSON.match(body):  # `curl -d` sends JSON under a form's content type
            return _read_json(body, max_images), ""
        return _read_fields(request, _read_urlencoded(request, body))
    if kind or whole_body(request):
        raise _unsupported(request)
    return [], ""


def _no_form(request: AnyRequest) -> bytes:
    """Return the whole body. Raises RequestError if it is a form in spite of its Content-Type."""
    body = whole_body(request)
    if _LOOKS_LIKE_FORM.match(body):
        raise RequestError(
            400,
            "bad_form",
            f"The body is a form, but its Content-Type is {quote(request.mimetype)}. Do not set "
            f"this header; your client sets it with the form's boundary. {_how(request)}",
        )
    return body


def _read_fields(request: AnyRequest, fields: list[Part]) -> tuple[list[Upload], str]:
    """Return the images in a form's fields and the name of the sample, or ""."""
    if wrong := [field.name for field in fields if field.name not in (FILE, SAMPLE)]:
        wrong = [name[:_MOST_NAME] for name in dict.fromkeys(wrong)][:5]
        raise RequestError(
            400,
            "unknown_field",
            f"Unknown form field {', '.join(map(quote, wrong))}. Put the image into the field "
            f"`file`, and options such as rule and top into the URL. {_how(request)}",
            fields=wrong,
        )
    # If no file was chosen, browsers send a file field without a file name and without content.
    fields = [field for field in fields if field.filename or field.data]
    if any((field.name == FILE) == (field.filename is None) for field in fields):
        raise RequestError(
            400,
            "not_a_file",
            f"The field `file` must be a file, and `sample` a name. With curl, write @ before a "
            f"file's path. {_how(request)}",
        )
    files = [
        Upload(field.data, (field.filename or "")[:_MOST_NAME] or None)
        for field in fields
        if field.name == FILE
    ]
    # Invalid UTF-8 is replaced: the name is then unknown and is quoted in the error.
    samples = [field.data for field in fields if field.name == SAMPLE]
    return files, samples[0].decode(errors="replace") if samples else ""


def _read_urlencoded(request: AnyRequest, body: bytes) -> list[Part]:
    """Return the fields of a URL-encoded form, which cannot carry a file."""
    try:
        pairs = parse_qsl(body.decode() if len(body) <= _FORM_BYTES else "")
    except UnicodeDecodeError:
        # `curl --data-binary @image.png` sends an image under a form's content type.
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
            raise RequestError(400, "bad_json", f"The JSON has an unknown structure. {_JSON}")
    check_number(len(texts), max_images)  # before they are decoded, which takes memory
    return [_from_base64(text) for text in texts]


def _from_base64(text: Any) -> Upload:
    if not isinstance(text, str):
        problem = RequestError(400, "bad_base64", f"The image is not a string. {_JSON}")
        return Upload(b"", None, problem)
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        data = read_base64(encoded)
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


def _unsupported(request: AnyRequest) -> RequestError:
    kind = quote(request.mimetype) if request.mimetype else "no content type"
    return RequestError(
        415,
        "unsupported_media_type",
        f"An image cannot be read from {kind}: send multipart/form-data, image/*, "
        f"application/octet-stream or application/json. {_how(request)}",
    )


_JSON = 'Expected {"image": "<base64>"} or {"images": ["<base64>", ...]}.'


def missing_image(url: str) -> RequestError:
    """Return the refusal of a request to `url` that has no image."""
    return RequestError(400, "missing_image", f"There is no image in the request. {_example(url)}")


def _how(request: AnyRequest) -> str:
    return _example(url_of(request))


def _example(url: str) -> str:
    return f"For example: curl -F file=@image.png {url}"
