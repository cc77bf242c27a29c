"""Compressed requests are read, whatever the route, and none of them unpacks without a limit."""

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable
from io import BytesIO

import pytest
from flask.testing import FlaskClient

from app.settings import MEBIBYTE
from tests.app.asking import LENET, only_prediction, refused


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "GZIP": ("GZIP", gzip.compress),
    "gzip in two parts": ("gzip", lambda d: gzip.compress(d[:99], mtime=0) + gzip.compress(d[99:])),
    "deflate": ("deflate", zlib.compress),
    "identity": ("identity", bytes),
}


def send(
    client: FlaskClient, data: bytes, encoding: str, url: str = LENET, kind: str = "image/png"
) -> object:
    return client.post(url, data=data, content_type=kind, headers={"Content-Encoding": encoding})


@pytest.mark.parametrize("case", ENCODERS)
def test_a_compressed_image_is_classified(client: FlaskClient, seven: bytes, case: str) -> None:
    encoding, encode = ENCODERS[case]
    assert only_prediction(send(client, encode(seven), encoding))["label"] == "7"


def test_a_compressed_form_is_read(client: FlaskClient, seven: bytes) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="7.png"\r\n\r\n'
    form = head + seven + b"\r\n--x--\r\n"
    response = send(
        client, gzip.compress(form, mtime=0), "gzip", kind="multipart/form-data; boundary=x"
    )
    assert only_prediction(response)["label"] == "7"


def test_a_chunked_compressed_body_is_read(client: FlaskClient, seven: bytes) -> None:
    response = client.post(
        LENET,
        input_stream=BytesIO(gzip.compress(seven, mtime=0)),
        content_type="image/png",
        headers={"Content-Encoding": "gzip", "Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
    )
    assert only_prediction(response)["label"] == "7"


def test_the_standard_protocols_read_it_too(client: FlaskClient) -> None:
    body = gzip.compress(json.dumps({"instances": [[[0.0] * 28] * 28]}).encode())
    url = "/v1/models/mnist-lenet-metaplastic:predict"
    response = send(client, body, "gzip", url, "application/json")
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
@pytest.mark.parametrize("url", [LENET, "/v2/models/mnist-lenet-metaplastic/infer"])
def test_a_bomb_is_refused_before_it_is_unpacked(
    client: FlaskClient, encoding: str, pack: Callable[[bytes], bytes], url: str
) -> None:
    bomb = pack(bytes(200 * MEBIBYTE))
    assert len(bomb) < MEBIBYTE
    tracemalloc.start()
    response = send(client, bomb, encoding, url)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert response.status_code == 413
    assert "at most 32 MiB" in response.text
    assert peak < 80 * MEBIBYTE  # the limit's 32, and a copy of them at most


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_a_body_that_ends_early_is_refused(client: FlaskClient, seven: bytes, cut: int) -> None:
    refused(send(client, gzip.compress(seven, mtime=0)[:-cut], "gzip"), 400, "bad_compression")


@pytest.mark.parametrize("body", [b"", b"plain text", gzip.compress(b"x", mtime=0) + b"rest"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_is_not_compressed_is_refused(client: FlaskClient, body: bytes, encoding: str) -> None:
    refused(send(client, body, encoding), 400, "bad_compression")


def test_deflate_without_its_header_is_refused(client: FlaskClient, seven: bytes) -> None:
    refused(send(client, raw_deflate(seven), "deflate"), 400, "bad_compression")


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
def test_another_encoding_is_refused(client: FlaskClient, seven: bytes, encoding: str) -> None:
    refused(send(client, seven, encoding), 415, "unsupported_content_encoding")
