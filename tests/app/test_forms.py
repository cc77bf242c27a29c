"""Forms as the world writes them: what can be read is read, and of the rest the cause is said."""

import base64
import json

import pytest
from flask.testing import FlaskClient

from app.web.multipart import MOST_PARTS
from tests.app.asking import LENET, only_prediction, refused

FORM = "multipart/form-data; boundary=X"
URLENCODED = "application/x-www-form-urlencoded"
LONG = "n" * 100_000 + ".png"


def form(
    data: bytes, filename: bytes = b"a.png", field: bytes = b"file", more: bytes = b""
) -> bytes:
    """A form of one file."""
    head = b'--X\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n' % (
        field,
        filename,
    )
    return head + more + b"\r\n" + data + b"\r\n--X--\r\n"


@pytest.mark.parametrize("more", [b"", b"Content-Transfer-Encoding: binary\r\n"])
@pytest.mark.parametrize(
    ("filename", "shown"),
    [
        ("Ofsl\u00fatdyk.png".encode("latin-1"), "Ofsl\u00fatdyk.png"),
        ("\u4e03.png".encode(), "\u4e03.png"),
    ],
)
def test_a_file_name_in_latin_1_or_utf_8_is_read(
    client: FlaskClient, seven: bytes, filename: bytes, shown: str, more: bytes
) -> None:
    response = client.post(LENET, data=form(seven, filename, more=more), content_type=FORM)
    prediction = only_prediction(response)
    assert (prediction["label"], prediction["filename"]) == ("7", shown)


@pytest.mark.parametrize(
    ("kind", "change", "cause"),
    [
        ("multipart/form-data", lambda body: body, "has no boundary"),
        ("multipart/form-data; boundary=", lambda body: body, "has no boundary"),
        ("multipart/form-data; boundary=Y", lambda body: body, "'Y'"),
        ("multipart/form-data; boundary=Y", lambda body: body + bytes(10**6), "'Y'"),
        ("multipart/form-data; boundary=Y", lambda _: b"--X", "'Y'"),
        (FORM, lambda body: body[: -len(b"\r\n--X--\r\n")], "incomplete"),
        (FORM, lambda body: body[:30], "incomplete"),
        (FORM, lambda body: body[:-4] + b"\r\n", "incomplete"),
        (
            FORM,
            lambda body: body.replace(b"Content-Disposition", b"X-Other"),
            "Content-Disposition",
        ),
        (FORM, lambda _: b"--X\r\n--X--", "Content-Disposition"),
    ],
)
def test_a_form_that_cannot_be_read_is_refused_with_the_cause(
    client: FlaskClient, seven: bytes, kind: str, change: object, cause: str
) -> None:
    assert callable(change)
    response = client.post(LENET, data=change(form(seven)), content_type=kind)
    assert cause in refused(response, 400, "bad_form")["message"]


@pytest.mark.parametrize(
    "body",
    [
        b'--X\r\nContent-Disposition: form-data; name=file; filename="a"\r\n\r\n\r\n'
        * (MOST_PARTS + 1)
        + b"--X--",
        b"\r\n" * 10**6 + form(b"x"),
        b"--X\r\nX-Header: " + b"a\n" * 10**6 + b"\r\n\r\n\r\n--X--",
    ],
    ids=["fields", "a preamble", "headers"],
)
def test_a_form_of_too_much_besides_files_is_refused_as_such(
    client: FlaskClient, body: bytes
) -> None:
    refused(client.post(LENET, data=body, content_type=FORM), 413, "form_too_large")


def test_an_empty_form_has_no_image(client: FlaskClient) -> None:
    for body in (b"", b"--X--\r\n"):
        refused(client.post(LENET, data=body, content_type=FORM), 400, "missing_image")


@pytest.mark.parametrize("kind", ["application/json", "image/png", "application/octet-stream"])
def test_a_form_that_is_called_something_else_is_told_so(
    client: FlaskClient, seven: bytes, kind: str
) -> None:
    error = refused(client.post(LENET, data=form(seven), content_type=kind), 400, "bad_form")
    assert f"{kind!r}. Do not set this header" in error["message"]


@pytest.mark.parametrize("kind", ["application/json", URLENCODED])
def test_a_byte_order_mark_before_json_is_read_over(
    client: FlaskClient, seven: bytes, kind: str
) -> None:
    body = json.dumps({"image": base64.b64encode(seven).decode()}).encode("utf-8-sig")
    assert only_prediction(client.post(LENET, data=body, content_type=kind))["label"] == "7"


def test_json_that_calls_itself_a_form_is_read(client: FlaskClient, seven: bytes) -> None:
    """What `curl -d` sends without a -H."""
    text = base64.b64encode(seven).decode()
    for body in ({"image": text}, {"images": [text]}):
        for space in ("", "\n "):
            sent = space + json.dumps(body)
            response = client.post(LENET, data=sent, content_type=URLENCODED)
            assert only_prediction(response)["label"] == "7"
    for broken in ("{", "[1]", '{"picture": "x"}'):
        refused(client.post(LENET, data=broken, content_type=URLENCODED), 400, "bad_json")


def test_a_form_without_files_names_what_is_wrong_in_it(client: FlaskClient) -> None:
    sent = {"image=eA%3D%3D": "unknown_field", "file=%40seven.png": "not_a_file"}
    for body, code in sent.items():
        error = refused(client.post(LENET, data=body, content_type=URLENCODED), 400, code)
        assert "curl -F file=@image.png" in error["message"]
    assert client.post(LENET, data="sample=seven", content_type=URLENCODED).status_code == 200


@pytest.mark.parametrize("path", ["/predict", LENET, "/v1/models/x:predict", "/v2/models/x/infer"])
def test_put_is_told_to_post(client: FlaskClient, seven: bytes, path: str) -> None:
    """`curl -T seven.png`."""
    response = client.put(path, data=seven)
    assert response.status_code == 405
    assert "POST" in response.headers["Allow"]
    message = response.json.get("message") or response.json["error"]
    option = "-d @request.json" if path.startswith("/v") else "-F file=@image.png"
    assert f"curl {option} http://localhost{path}" in message


@pytest.mark.parametrize("more", [b"", b"X-Header: 1\r\n"])
def test_a_long_file_name_comes_back_cut(client: FlaskClient, seven: bytes, more: bytes) -> None:
    body = form(seven, LONG.encode(), more=more)
    answers = [
        client.post(path, data=body, content_type=FORM)
        for path in (LENET, f"{LENET}/explain", "/api/mnist/compare")
    ]
    for answer in answers:
        assert answer.status_code == 200
        assert f'"filename":"{LONG[:255]}"' in answer.text
    answers = [
        client.post(LENET, data=form(b"no image", LONG.encode(), more=more), content_type=FORM),
        client.post(LENET, data=form(b"", LONG.encode(), more=more), content_type=FORM),
        client.post(LENET, data=form(seven, field=LONG.encode(), more=more), content_type=FORM),
    ]
    for answer in answers:
        assert 400 <= answer.status_code < 500
        assert len(answer.data) < 1000
