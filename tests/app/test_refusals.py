"""Every way to ask wrongly, and the answer that says what was wrong.

The client holds each answer against its own documentation in swagger.json.
"""

import base64
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from PIL import Image
from urllib3.filepost import encode_multipart_formdata

from tests.app.asking import LENET, refused, send_many, upload


def test_neither_file_nor_sample_is_told_how(client: FlaskClient) -> None:
    for response in (client.post(LENET), client.post("/predict", data={}), upload(client)):
        error = refused(response, 400, "missing_image")
        assert f"curl -F file=@image.png {response.request.base_url}" in error["message"]


def test_a_file_under_another_name_is_named(client: FlaskClient, seven: bytes) -> None:
    error = refused(upload(client, image=seven), 400, "unknown_field")
    assert "'image'" in error["message"]
    assert "`file`" in error["message"]


def test_an_option_in_the_form_is_not_passed_over(client: FlaskClient, seven: bytes) -> None:
    form = {"file": (io.BytesIO(seven), "x.png"), "rule": "backprop"}
    refused(client.post(LENET, data=form), 400, "unknown_field")


def test_a_file_sent_as_text_is_explained(client: FlaskClient) -> None:
    form = {"file": "@seven.png"}
    response = client.post(LENET, data=form, content_type="multipart/form-data")
    assert "@" in refused(response, 400, "not_a_file")["message"]


def test_an_empty_file_is_refused(client: FlaskClient) -> None:
    refused(upload(client, file=b""), 400, "empty_file")


def test_an_unknown_sample_is_answered_with_those_there_are(client: FlaskClient) -> None:
    error = refused(client.post(LENET, data={"sample": "../x"}), 400, "unknown_sample")
    assert "seven" in error["samples"]


def test_an_unknown_rule_is_answered_with_those_there_are(client: FlaskClient) -> None:
    error = refused(client.post(f"{LENET}?rule=none&sample=one"), 404, "unknown_rule")
    assert "metaplastic" in error["rules"]
    refused(client.get(f"{LENET}?rule=none"), 404, "unknown_rule")
    refused(client.get(f"{LENET}/curves.png?rule=none"), 404, "unknown_rule")


def test_an_unknown_version_is_refused(client: FlaskClient) -> None:
    refused(client.post(f"{LENET}?version=999&sample=one"), 404, "unknown_version")


@pytest.mark.parametrize(
    "query",
    ["top=-1", "top=0", "top=11", "top=abc", "top=1.5", "version=x", "preprocess=yes"],
)
def test_a_bad_parameter_is_named(client: FlaskClient, query: str) -> None:
    error = refused(client.post(f"{LENET}?sample=one&{query}"), 400, "bad_parameter")
    assert error["parameter"] == query.partition("=")[0]


def test_an_unknown_parameter_is_named(client: FlaskClient) -> None:
    error = refused(client.post(f"{LENET}?sample=one&tpo=3"), 400, "unknown_parameter")
    assert "'tpo'" in error["message"]
    refused(client.get(f"{LENET}?top=3"), 400, "unknown_parameter")
    assert "there are: none." in client.get("/demo/models?top=3").text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"image": 1}',
        b'{"images": "x"}',
        b'{"image": "eA==", "top": 3}',
        b"[" * 1_000,
    ],
)
def test_bad_json_is_refused(client: FlaskClient, body: bytes) -> None:
    refused(client.post(LENET, data=body, content_type="application/json"), 400, "bad_json")


@pytest.mark.parametrize("text", ["%%%", "abc", "ä", "data:image/png;base64,???"])
def test_bad_base64_is_refused(client: FlaskClient, text: str) -> None:
    assert refused(client.post(LENET, json={"image": text}), 400, "bad_base64")["index"] == 0


def test_no_image_in_the_json_is_refused(client: FlaskClient) -> None:
    refused(client.post(LENET, json={"images": []}), 400, "missing_image")
    refused(client.post(LENET, json={"images": [1]}), 400, "bad_base64")


@pytest.mark.parametrize("kind", ["text/plain", "video/mp4", ""])
def test_another_content_type_is_refused(client: FlaskClient, seven: bytes, kind: str) -> None:
    response = client.post(LENET, data=seven, content_type=kind)
    refused(response, 415, "unsupported_media_type")


def test_what_curl_calls_a_form_is_refused(client: FlaskClient, seven: bytes) -> None:
    """`curl --data-binary @image.png` without a content type."""
    response = client.post(LENET, data=seven, content_type="application/x-www-form-urlencoded")
    refused(response, 415, "unsupported_media_type")
    response = client.post(LENET, data=b"a&" * 100_000, content_type=response.request.content_type)
    refused(response, 400, "missing_image")


def test_text_named_png_is_refused(client: FlaskClient) -> None:
    refused(upload(client, file=b"This is a text."), 415, "not_an_image")


def test_an_image_that_no_class_can_mean_is_refused(client: FlaskClient, blank: bytes) -> None:
    refused(upload(client, file=blank), 422, "no_content")


def test_the_bad_image_of_a_batch_is_named(client: FlaskClient, seven: bytes) -> None:
    response = send_many(client, ("a.png", seven), ("b.png", seven[:60]), ("c.png", seven))
    error = refused(response, 400, "unreadable_image")
    assert (error["index"], error["filename"]) == (1, "b.png")
    assert error["message"].startswith("Image 2 of 3 ('b.png'): ")


def test_too_many_images_are_refused(make_client: Callable[..., FlaskClient], lenets: Path) -> None:
    client = make_client(weights=lenets, max_images=2)
    error = refused(client.post(LENET, json={"images": ["eA=="] * 3}), 413, "too_many_images")
    assert error["limit"] == 2
    # Nor are they read first: of these none could be.
    refused(client.post(LENET, json={"images": ["?"] * 3}), 413, "too_many_images")
    many = [(f"{number}.png", b"x") for number in range(1500)]
    assert "1500 images" in refused(send_many(client, *many), 413, "too_many_images")["message"]


def test_too_large_a_request_is_refused(
    make_client: Callable[..., FlaskClient], lenets: Path
) -> None:
    client = make_client(weights=lenets, max_request_mib=1)
    big = bytes(2 * 1024 * 1024)
    form, kind = encode_multipart_formdata({"file": ("big.png", big)})
    refused(client.post(LENET, data=form, content_type=kind), 413, "request_too_large")
    refused(client.post(LENET, data=big, content_type="image/png"), 413, "request_too_large")
    refused(client.post(LENET, data=big, content_type="application/json"), 413, "request_too_large")


def test_a_request_that_takes_too_long_is_refused_and_not_killed(
    make_client: Callable[..., FlaskClient], lenets: Path
) -> None:
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize((2000, 2000)).save(buffer, "PNG")
    client = make_client(weights=lenets, timeout=1)
    texts = [base64.b64encode(buffer.getvalue()).decode()] * 128
    error = refused(client.post(LENET, json={"images": texts}), 413, "too_much_work")
    assert error["index"] > 0
