"""What a form holds does not depend on who reads it: our reader agrees with werkzeug's."""

import io

import pytest
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from app.web.multipart import MOST_PARTS, Part, decode_form, parts_of

PICTURE = bytes(range(256)) + b"\r\n--\r\n--not the boundary\r\n"
KIND = "multipart/form-data; boundary=bound"
PARSER = FormDataParser(lambda *_, **__: io.BytesIO())


def field(disposition: str, data: bytes, more: str = "") -> bytes:
    return (
        b"--bound\r\nContent-Disposition: form-data; "
        + f"{disposition}{more}\r\n\r\n".encode()
        + data
        + b"\r\n"
    )


USUAL = {
    "a file, as browsers send it": field(
        'name="file"; filename="a.png"', PICTURE, "\r\nContent-Type: image/png"
    ),
    "a file, as urllib3 sends it": field('name="file"; filename="a.png"', PICTURE),
    "a name in Chinese": field('name="file"; filename="七.png"', PICTURE),
    "no file chosen": field(
        'name="file"; filename=""', b"", "\r\nContent-Type: application/octet-stream"
    ),
    "two files and a sample": field('name="file"; filename="a"', PICTURE)
    + field('name="file"; filename="b"', b"")
    + field('name="sample"', b"seven"),
}
UNUSUAL = {
    "an escaped quote": field('name="file"; filename="a\\"b.png"', PICTURE),
    "a name in RFC 5987": field("name=\"file\"; filename*=UTF-8''a.png", PICTURE),
    "another header": field('name="file"; filename="a"', PICTURE, "\r\nX-More: 1"),
    "a preamble": b"before\r\n" + field('name="file"; filename="a"', PICTURE),
    "several, and one longer than a piece": field("name=file; filename=a", PICTURE)
    + field("name=file; filename=b", PICTURE * 1000)
    + field("name=sample", b"seven"),
}


def as_werkzeug_reads(body: bytes) -> list[Part]:
    mimetype, options = parse_options_header(KIND)
    _, form, files = PARSER.parse(io.BytesIO(body), mimetype, len(body), options)
    return [
        *(Part(name, file.filename, file.read()) for name, file in files.items(multi=True)),
        *(Part(name, None, value.encode()) for name, value in form.items(multi=True)),
    ]


@pytest.mark.parametrize("case", USUAL)
@pytest.mark.parametrize("end", [b"--bound--\r\n", b"--bound--"])
def test_the_usual_form_is_read_as_werkzeug_reads_it(case: str, end: bytes) -> None:
    body = USUAL[case] + end
    assert parts_of(KIND, body) == as_werkzeug_reads(body)


@pytest.mark.parametrize("case", UNUSUAL)
def test_another_form_is_left_to_werkzeug(case: str) -> None:
    body = UNUSUAL[case] + b"--bound--\r\n"
    assert parts_of(KIND, body) is None
    assert decode_form(KIND, body) == as_werkzeug_reads(body)
    assert as_werkzeug_reads(body)[0].data == PICTURE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--bound--\r\n",
        USUAL["a file, as urllib3 sends it"],
        USUAL["a file, as urllib3 sends it"][:100],
        USUAL["a file, as urllib3 sends it"] + b"--bound--\r\nafter",
        USUAL["a file, as urllib3 sends it"].replace(b"--bound", b"--boundary") + b"--bound--",
    ],
)
def test_a_broken_form_is_never_half_read(body: bytes) -> None:
    assert parts_of(KIND, body) in (None, as_werkzeug_reads(body))


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/mixed; boundary=bound", ""])
def test_a_form_without_a_boundary_is_declined(kind: str) -> None:
    assert parts_of(kind, USUAL["a file, as urllib3 sends it"] + b"--bound--") is None


def test_more_fields_than_werkzeug_takes_are_declined() -> None:
    body = field('name="file"; filename="a"', b"x") * (MOST_PARTS + 1) + b"--bound--"
    assert parts_of(KIND, body) is None
