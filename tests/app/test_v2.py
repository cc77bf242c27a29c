"""The Open Inference Protocol as its text says it, and what is refused without a worker lost."""

import json
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.app.asking import upload

MODEL = "/v2/models/mnist-lenet-metaplastic"
BLANK = np.zeros((1, 28, 28, 1), np.float32)


def request_of(**changes: Any) -> dict[str, Any]:
    """A request that is right but for `changes` to its input."""
    plain = {"name": "images", "shape": [1, 28, 28, 1], "datatype": "FP32"}
    given = {**plain, "data": BLANK.ravel().tolist(), **changes}
    return {"inputs": [{name: value for name, value in given.items() if value is not None}]}


def refused(response: TestResponse, status: int = 400) -> str:
    """The message of an error in the protocol's shape, and in no other."""
    assert response.status_code == status, response.text
    assert response.content_type == "application/json"
    assert list(response.json) == ["error"]
    message = response.json["error"]
    assert isinstance(message, str)
    assert message
    return message


def test_health(client: FlaskClient) -> None:
    assert client.get("/v2/health/live").json == {"live": True}
    assert client.get("/v2/health/ready").json == {"ready": True}
    assert client.get("/v2").json["name"] == "metaplastic"
    assert client.get(f"{MODEL}/ready").json["ready"] is True


def test_the_same_image_has_the_same_probabilities_as_the_api_gives(
    client: FlaskClient, seven: bytes
) -> None:
    from tests.e2e.digits import LABELS, as_bytes

    image = as_bytes()[LABELS.index(7)]
    sent = request_of(shape=[1, 28, 28, 1], datatype="UINT8", data=image.ravel().tolist())
    found = client.post(f"{MODEL}/infer", json=sent).json["outputs"][0]["data"]
    (prediction,) = upload(client, file=seven).json["predictions"]
    best = prediction["top"][0]
    assert found[best["index"]] == pytest.approx(best["probability"], abs=1e-4)


@pytest.mark.parametrize("shape", [[2, 28, 28, 1], [2, 28, 28]])
@pytest.mark.parametrize("nested", [True, False])
def test_grey_images_may_leave_out_their_channel(
    client: FlaskClient, shape: list[int], nested: bool
) -> None:
    values = np.zeros(shape)
    data = values.tolist() if nested else values.ravel().tolist()
    answer = client.post(f"{MODEL}/infer", json=request_of(shape=shape, data=data)).json
    assert answer["outputs"][0]["shape"] == [2, 10]
    assert len(answer["outputs"][0]["data"]) == 20
    assert "id" not in answer


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "pixels"}, "'images'"),
        ({"datatype": "INT32"}, "UINT8, FP16, FP32, FP64"),
        ({"datatype": ["FP32"]}, "UINT8, FP16, FP32, FP64"),
        ({"shape": [1, 32, 32, 3]}, "do not fill"),
        ({"shape": [1, 784]}, "[-1, 28, 28, 1]"),
        ({"shape": [-1, 28, 28, 1]}, "whole numbers"),
        ({"shape": [1.0, 28, 28, 1]}, "whole numbers"),
        ({"shape": []}, "do not fill"),
        ({"shape": [0, 28, 28, 1], "data": []}, "[-1, 28, 28, 1]"),
        ({"shape": None}, "shape"),
        ({"data": None}, "neither data nor"),
        ({"data": [[0.0], [0.0, 1.0]]}, "same length"),
        ({"data": ["a"] * 784}, "values that are not numbers"),
        ({"data": [True] * 784}, "values that are not numbers"),
        ({"data": [None] * 784}, "values that are not numbers"),
        ({"data": [10**400] * 784}, "values that are not numbers"),
        ({"data": [1e300] * 784}, "from 0 to 1"),
        ({"data": [-0.1] * 784}, "from 0 to 1"),
        ({"data": [float("nan")] * 784}, "from 0 to 1"),
        ({"data": {}}, "values that are not numbers"),
        ({"datatype": "UINT8", "data": [256] * 784}, "0 to 255"),
        ({"datatype": "UINT8", "data": [0.5] * 784}, "0 to 255"),
        ({"parameters": []}, "neither"),
        ({"parameters": 1}, "object"),
        ({"parameters": {"binary_data_size": 3136}}, "Inference-Header-Content-Length"),
    ],
)
def test_a_wrong_tensor_is_said(client: FlaskClient, changes: dict[str, Any], message: str) -> None:
    sent = request_of(**changes)
    if changes == {"parameters": []}:
        del sent["inputs"][0]["data"]
    assert message in refused(client.post(f"{MODEL}/infer", data=json.dumps(sent)))


def test_texts_in_a_tensor_take_no_more_room_than_they_have(client: FlaskClient) -> None:
    """numpy's arrays of text have room for the longest in every place: here 800 MB."""
    sent = request_of(data=["a" * 200_000, *[""] * 1000])
    tracemalloc.start()
    try:
        assert "values that are not numbers" in refused(client.post(f"{MODEL}/infer", json=sent))
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"{}", "inputs"),
        (b'{"inputs": []}', "inputs"),
        (b'{"inputs": [1]}', "inputs"),
    ],
)
def test_a_wrong_body_is_said(client: FlaskClient, body: bytes, message: str) -> None:
    assert message in refused(client.post(f"{MODEL}/infer", data=body))


@pytest.mark.parametrize(
    "more",
    [
        {"id": 7},
        {"outputs": ["probabilities"]},
        {"outputs": {"name": "probabilities"}},
        {"outputs": [{}]},
        {"outputs": [{"name": "probabilities"}] * 2},
        {"outputs": [{"name": "in_distribution", "parameters": {"classification": 1}}]},
        {"outputs": [{"name": "probabilities", "parameters": {"classification": -1}}]},
        {"outputs": [{"name": "probabilities", "parameters": {"classification": "3"}}]},
        {"outputs": [{"name": "probabilities", "parameters": {"shared_memory_region": "a"}}]},
    ],
)
def test_a_wrong_wish_is_said(client: FlaskClient, more: dict[str, Any]) -> None:
    refused(client.post(f"{MODEL}/infer", json={**request_of(), **more}))


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "99999", "9" * 50, "\u0663"])
def test_a_wrong_header_length_is_said(client: FlaskClient, length: str) -> None:
    body = json.dumps(request_of()).encode()
    headers = {"Inference-Header-Content-Length": length.encode().decode("latin-1")}
    assert "Inference-Header" in refused(client.post(f"{MODEL}/infer", data=body, headers=headers))


@pytest.mark.parametrize(("size", "sent"), [(3136, 3132), (3132, 3132), (3135, 3135), ("x", 3136)])
def test_a_wrong_binary_size_is_said(client: FlaskClient, size: object, sent: int) -> None:
    head = json.dumps(request_of(data=None, parameters={"binary_data_size": size})).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    refused(client.post(f"{MODEL}/infer", data=head + bytes(sent), headers=headers))


@pytest.mark.parametrize("sent", [b"", bytes(3), bytes(4), bytes(3137), bytes(3136 + 784)])
def test_a_raw_tensor_that_is_no_whole_image_is_refused(client: FlaskClient, sent: bytes) -> None:
    headers = {"Inference-Header-Content-Length": "0"}
    message = refused(client.post(f"{MODEL}/infer", data=sent, headers=headers))
    assert "[-1, 28, 28, 1]" in message or "FP32" in message


def test_what_comes_back_in_an_answer_is_short(client: FlaskClient) -> None:
    long = {**request_of(), "id": "x" * 1025}
    assert "1024" in refused(client.post(f"{MODEL}/infer", json=long))
    for changes in ({"shape": [1] * 100_000}, {"name": "x" * 10**6}, {"datatype": "x" * 10**6}):
        assert len(refused(client.post(f"{MODEL}/infer", json=request_of(**changes)))) < 500
    named = {**request_of(), "outputs": [{"name": "x" * 10**6}]}
    assert len(refused(client.post(f"{MODEL}/infer", json=named))) < 500


def statistics(client: FlaskClient, name: str) -> Any:
    (found,) = client.get(f"/v2/models/{name}/stats").json["model_stats"]
    spent = found["inference_stats"]
    return (
        spent["success"]["count"],
        spent["fail"]["count"],
        found["inference_count"],
        found["execution_count"],
    )


def test_statistics_count_each_model_that_answered(
    make_client: Any, put_model: Any, seven: bytes
) -> None:
    put_model("one", architecture="counted-one")
    put_model("two", architecture="counted-two")
    client = make_client()
    one, two = (f"mnist-counted-{name}-metaplastic" for name in ("one", "two"))
    assert statistics(client, one) == statistics(client, two) == (0, 0, 0, 0)
    client.get("/api/mnist/counted-one")
    client.get(f"/v2/models/{one}")
    assert statistics(client, one) == (0, 0, 0, 0)
    upload(client, "/api/mnist/counted-one", file=seven)
    client.post("/api/mnist/compare", data=seven, content_type="image/png")
    assert (statistics(client, one), statistics(client, two)) == ((2, 0, 2, 2), (1, 0, 1, 1))
    several = request_of(shape=[20, 28, 28], datatype="UINT8", data=[0] * (20 * 784))
    client.post(f"/v2/models/{two}/infer", json=several)
    client.post(f"/v2/models/{two}/infer", json={})
    upload(client, "/api/mnist/counted-one", file=b"no image")
    assert (statistics(client, one), statistics(client, two)) == ((2, 1, 2, 2), (2, 1, 21, 3))


def test_binary_answers_are_laid_out_as_the_extension_says(client: FlaskClient) -> None:
    plain = {"classification": 1, "binary_data": True}
    wish = {"outputs": [{"name": "probabilities", "parameters": plain}], "id": "x"}
    response = client.post(f"{MODEL}/infer", json={**request_of(), **wish})
    assert response.content_type == "application/octet-stream"
    length = int(response.headers["Inference-Header-Content-Length"])
    head, blob = json.loads(response.data[:length]), response.data[length:]
    (output,) = head["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, 1])
    assert output["parameters"] == {"binary_data_size": len(blob)}
    assert struct.unpack("<I", blob[:4])[0] == len(blob) - 4
    assert head["id"] == "x"


@pytest.mark.parametrize(
    "url",
    [
        "/v2/nothing",
        "/v2/models/nonet",
        "/v2/models/nonet/config",
        "/v2/models/nonet/stats",
        f"{MODEL}/versions/9",
        f"{MODEL}/versions/9/config",
        f"{MODEL}/versions/x/stats",
    ],
)
def test_what_is_not_there_is_said_in_the_protocols_shape(client: FlaskClient, url: str) -> None:
    refused(client.get(url), 404)


def test_a_wrong_method_is_said_in_the_protocols_shape(client: FlaskClient) -> None:
    refused(client.get(f"{MODEL}/infer"), 405)


def test_too_many_images_are_said(client: FlaskClient) -> None:
    sent = request_of(shape=[129, 28, 28], datatype="UINT8", data=[0] * (129 * 784))
    assert "at most 128" in refused(client.post(f"{MODEL}/infer", json=sent), 413)


def test_too_many_bytes_are_said(make_client: Any, put_model: Any) -> None:
    put_model()
    client = make_client(max_request_mib=1)
    assert "1 MiB" in refused(client.post(f"{MODEL}/infer", data=bytes(2**21)), 413)


def test_a_model_that_cannot_run_is_not_ready(make_client: Any, put_model: Any) -> None:
    (put_model(files={}) / "model.onnx").write_bytes(b"not a model")
    client = make_client()
    for url in ("/v2/health/ready", f"{MODEL}/ready"):
        refused(client.get(url), 503)
