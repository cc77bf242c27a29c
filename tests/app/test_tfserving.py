"""TensorFlow Serving's REST as its documentation writes it."""

import base64
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.app.asking import upload
from tests.app.test_v2 import refused
from tests.e2e.digits import LABELS, VERSION, as_bytes, as_floats, png

MODEL = "/v1/models/mnist-lenet-metaplastic"
FLOATS, BYTES = as_floats().tolist(), as_bytes().tolist()
FILES = [{"b64": base64.b64encode(png(image)).decode()} for image in as_bytes()]


def predict(client: FlaskClient, url: str = MODEL, **body: Any) -> TestResponse:
    return client.post(f"{url}:predict", json=body)


def digits(response: TestResponse) -> list[int]:
    """The best class of each row, from the row or the column format."""
    assert response.status_code == 200, response.text
    ((name, rows),) = response.json.items()
    assert name in ("predictions", "outputs")
    return np.array(rows).argmax(axis=1).tolist()


def test_status(client: FlaskClient) -> None:
    expected = {
        "model_version_status": [
            {
                "version": VERSION,
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }
    for url in (MODEL, f"{MODEL}/versions/{VERSION}", f"{MODEL}/labels/stable"):
        assert client.get(url).json == expected


def test_metadata(client: FlaskClient) -> None:
    metadata = client.get(f"{MODEL}/metadata").json
    assert metadata["model_spec"] == {
        "name": "mnist-lenet-metaplastic",
        "signature_name": "",
        "version": VERSION,
    }
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "uint8", "image_bytes"}
    default = signatures["serving_default"]
    assert default["method_name"] == "tensorflow/serving/predict"
    images = default["inputs"]["images"]
    assert images["dtype"] == "DT_FLOAT"
    sizes = [axis["size"] for axis in images["tensor_shape"]["dim"]]
    assert sizes == ["-1", "28", "28", "1"]
    assert default["outputs"]["probabilities"]["dtype"] == "DT_FLOAT"
    for pinned in (f"versions/{VERSION}", "labels/stable"):
        assert client.get(f"{MODEL}/{pinned}/metadata").json == metadata


@pytest.mark.parametrize(
    "body",
    [
        {"instances": FLOATS},
        {"instances": [{"images": image} for image in FLOATS]},
        {"instances": BYTES},
        {"instances": np.array(BYTES)[..., 0].tolist()},
        {"instances": FILES},
        {"instances": [{"image_bytes": file} for file in FILES]},
        {"inputs": FLOATS},
        {"inputs": {"images": FLOATS}},
        {"inputs": {"images": BYTES}, "signature_name": "uint8"},
        {"inputs": BYTES},
        {"inputs": FILES},
        {"inputs": {"image_bytes": FILES}, "signature_name": "image_bytes"},
        {"instances": FLOATS, "signature_name": "serving_default"},
        {"instances": FLOATS, "signature_name": ""},
        {"instances": FILES, "signature_name": ""},
    ],
)
def test_digits_are_read_by_row_and_by_column(client: FlaskClient, body: Any) -> None:
    response = predict(client, **body)
    assert digits(response) == LABELS
    assert list(response.json) == ["predictions" if "instances" in body else "outputs"]


def test_the_signature_that_the_metadata_names_is_taken(client: FlaskClient) -> None:
    named = client.get(f"{MODEL}/metadata").json["model_spec"]["signature_name"]
    assert digits(predict(client, instances=FLOATS, signature_name=named)) == LABELS


@pytest.mark.parametrize("url", [f"{MODEL}/versions/{VERSION}", f"{MODEL}/labels/stable"])
def test_a_version_can_be_pinned(client: FlaskClient, url: str) -> None:
    assert digits(predict(client, url, instances=FLOATS)) == LABELS


def test_an_image_file_is_prepared_as_the_api_prepares_it(
    client: FlaskClient, seven: bytes
) -> None:
    """It is dark on light, larger, and off the centre."""
    sent = [{"b64": base64.b64encode(seven).decode()}]
    (row,) = predict(client, instances=sent).json["predictions"]
    best = upload(client, file=seven).json["predictions"][0]["top"][0]
    assert row[best["index"]] == pytest.approx(best["probability"], abs=1e-6)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "instances"),
        ({"instances": FLOATS, "inputs": FLOATS}, "Expected either"),
        ({"instances": "x"}, "list of images"),
        ({"instances": []}, "[-1, 28, 28, 1]"),
        ({"instances": [[1, 2], [3]]}, "same length"),
        ({"instances": [0.5]}, "[-1, 28, 28, 1]"),
        ({"instances": [{"pixels": 1}]}, "images"),
        ({"instances": [{"b64": "%%%"}]}, "b64"),
        ({"instances": [{"b64": 7}]}, "b64"),
        ({"instances": [FILES[0], 7]}, "b64"),
        ({"instances": (as_floats() * 255 + 0.5).tolist()}, "from 0 to 1"),
        ({"instances": BYTES, "signature_name": "serving_default"}, "from 0 to 1"),
        ({"instances": FLOATS, "signature_name": "uint8"}, "0 to 255"),
        ({"instances": FLOATS, "signature_name": "other"}, "serving_default"),
        ({"instances": FLOATS, "signature_name": 7}, "serving_default"),
        ({"instances": FLOATS, "signature_name": []}, "serving_default"),
        ({"inputs": {"images": FLOATS, "more": 1}}, "one input"),
        ({"inputs": {"b64": "x"}}, "list of images"),
        ({"instances": [], "signature_name": "image_bytes"}, "no image"),
    ],
)
def test_what_is_wrong_is_said(client: FlaskClient, body: Any, message: str) -> None:
    assert message in refused(predict(client, **body))


def test_a_file_that_is_no_image_is_said(client: FlaskClient) -> None:
    text = base64.b64encode(b"This is a text.").decode()
    refused(predict(client, instances=[{"b64": text}]), 415)


@pytest.mark.parametrize("kind", ["floats", "files"])
def test_too_many_images_are_said(client: FlaskClient, kind: str) -> None:
    instances = FILES[:1] * 129 if kind == "files" else [[[0] * 28] * 28] * 129
    assert "at most 128" in refused(predict(client, instances=instances), 413)


@pytest.mark.parametrize(
    "url",
    ["/v1/models/nonet", f"{MODEL}/versions/9", f"{MODEL}/labels/canary", "/v1/nothing"],
)
def test_what_is_not_there_is_said(client: FlaskClient, url: str) -> None:
    refused(client.get(url), 404)


def test_an_unknown_model_cannot_predict(client: FlaskClient) -> None:
    refused(predict(client, "/v1/models/nonet", instances=FLOATS), 404)
