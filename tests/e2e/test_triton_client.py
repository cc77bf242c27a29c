"""NVIDIA's client for the Open Inference Protocol, unchanged, against a running service."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests
import tritonclient.http as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from tests.e2e.conftest import PATIENCE, Service
from tests.e2e.digits import LABELS, MODEL, VERSION, as_bytes, as_floats

HEADER = "Inference-Header-Content-Length"
SENT: dict[str, NDArray[Any]] = {
    "UINT8": as_bytes(),
    "FP32": as_floats(),
    "FP64": as_floats().astype(np.float64),
}


@pytest.fixture
def client(service: Service) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{service.port}") as one:
        yield one


def tensor(values: NDArray[Any], datatype: str, binary: bool = True, name: str = "images") -> Any:
    made = triton.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def test_the_server_and_the_model_are_live_and_ready(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, VERSION)
    assert not client.is_model_ready(MODEL, "999")
    assert not client.is_model_ready("nonet")


def test_metadata(client: Any) -> None:
    server = client.get_server_metadata()
    assert server["name"] == "metaplastic"
    extensions = {"binary_tensor_data", "classification", "model_repository"}
    assert extensions | {"model_configuration", "statistics"} == set(server["extensions"])
    assert client.get_model_metadata(MODEL) == {
        "name": MODEL,
        "versions": [VERSION],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, 28, 28, 1]}],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
            {"name": "in_distribution", "datatype": "BOOL", "shape": [-1]},
        ],
    }
    assert client.get_model_metadata(MODEL, VERSION)["name"] == MODEL


def test_configuration(client: Any) -> None:
    found = client.get_model_config(MODEL)
    assert found["name"] == MODEL
    assert found["platform"] == client.get_model_metadata(MODEL)["platform"]
    (images,) = found["input"]
    assert (images["name"], images["data_type"]) == ("images", "TYPE_FP32")
    assert images["dims"] == [28, 28, 1]
    assert [output["name"] for output in found["output"]] == ["probabilities", "in_distribution"]
    assert found["output"][0]["dims"] == [10]
    # A client may fill a batch of the size that it is told.
    full = np.zeros((found["max_batch_size"], *images["dims"]), np.float32)
    assert client.infer(MODEL, [tensor(full, "FP32")]).as_numpy("probabilities").shape == (128, 10)
    assert client.get_model_config(MODEL, VERSION) == found


def test_statistics_of_one_model_of_a_version_and_of_all(client: Any) -> None:
    client.infer(MODEL, [tensor(SENT["FP32"], "FP32")])
    with pytest.raises(InferenceServerException):
        client.infer(MODEL, [tensor(SENT["FP32"] * 255, "FP32")])
    rows = client.get_inference_statistics()["model_stats"]
    one = next(row for row in rows if (row["name"], row["version"]) == (MODEL, VERSION))
    assert one["inference_count"] >= 3
    assert one["inference_stats"]["fail"]["count"] >= 1
    assert one["inference_stats"]["fail"]["ns"] > 0
    assert len(rows) == len(client.get_model_repository_index())
    assert client.get_inference_statistics(MODEL)["model_stats"] == [one]
    assert client.get_inference_statistics(MODEL, VERSION)["model_stats"] == [one]
    for ask in (client.get_inference_statistics, client.get_model_config):
        with pytest.raises(InferenceServerException, match="it has") as caught:
            ask(MODEL, "999")
        assert caught.value.status() == "404"


@pytest.mark.parametrize("count", [1, 3])
def test_a_raw_tensor_is_read_and_answered_in_binary(service: Service, count: int) -> None:
    """The binary extension's request without any JSON; the client reads the answer."""
    answer = requests.post(
        f"{service.url}/v2/models/{MODEL}/infer",
        data=SENT["FP32"][:count].tobytes(),
        headers={HEADER: "0", "Content-Type": "application/octet-stream"},
        timeout=PATIENCE,
    )
    assert answer.status_code == 200, answer.text
    length = int(answer.headers[HEADER])
    result = triton.InferResult.from_response_body(answer.content, header_length=length)
    assert result.as_numpy("probabilities").argmax(axis=1).tolist() == LABELS[:count]
    assert result.as_numpy("in_distribution").tolist() == [True] * count


@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("datatype", SENT)
def test_digits_are_read_whatever_the_form(
    client: Any, datatype: str, binary_in: bool, binary_out: bool
) -> None:
    outputs = [
        triton.InferRequestedOutput("probabilities", binary_data=binary_out),
        triton.InferRequestedOutput("in_distribution", binary_data=binary_out),
    ]
    images = tensor(SENT[datatype], datatype, binary_in)
    result = client.infer(MODEL, [images], outputs=outputs, request_id="one")
    probabilities = result.as_numpy("probabilities")
    assert (probabilities.dtype, probabilities.shape) == (np.float32, (3, 10))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert probabilities.argmax(axis=1).tolist() == LABELS
    assert result.as_numpy("in_distribution").tolist() == [True, True, True]
    head = result.get_response()
    assert (head["model_name"], head["model_version"], head["id"]) == (MODEL, VERSION, "one")


def test_where_no_output_is_named_all_come_in_binary(client: Any) -> None:
    result = client.infer(MODEL, [tensor(SENT["FP32"], "FP32")])
    described = result.get_response()["outputs"]
    assert [output["name"] for output in described] == ["probabilities", "in_distribution"]
    assert [output["parameters"]["binary_data_size"] for output in described] == [120, 3]
    assert result.as_numpy("probabilities").argmax(axis=1).tolist() == LABELS


def test_only_the_outputs_asked_for_come(client: Any) -> None:
    outputs = [triton.InferRequestedOutput("in_distribution")]
    result = client.infer(MODEL, [tensor(SENT["FP32"], "FP32")], outputs=outputs)
    assert result.as_numpy("probabilities") is None
    assert result.as_numpy("in_distribution").shape == (3,)


@pytest.mark.parametrize("binary", [True, False])
def test_the_classification_extension_names_the_best_classes(client: Any, binary: bool) -> None:
    outputs = [triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)]
    result = client.infer(MODEL, [tensor(SENT["UINT8"], "UINT8")], outputs=outputs)
    found = result.as_numpy("probabilities")
    assert found.shape == (3, 2)
    best = [text.decode() if isinstance(text, bytes) else text for text in found[:, 0]]
    assert [text.split(":")[1:] for text in best] == [[str(n), str(n)] for n in LABELS]
    assert all(0.5 < float(text.split(":")[0]) <= 1 for text in best)


def test_a_version_can_be_pinned(client: Any) -> None:
    result = client.infer(MODEL, [tensor(SENT["FP32"], "FP32")], model_version=VERSION)
    assert result.get_response()["model_version"] == VERSION


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_a_compressed_request_is_read(client: Any, compression: str) -> None:
    result = client.infer(
        MODEL, [tensor(SENT["FP32"], "FP32")], request_compression_algorithm=compression
    )
    assert result.as_numpy("probabilities").argmax(axis=1).tolist() == LABELS


WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "shape": ({"values": SENT["FP32"][:, :27], "datatype": "FP32"}, {}, "[-1, 28, 28, 1]"),
    "datatype": ({"values": SENT["FP32"].astype(np.int64), "datatype": "INT64"}, {}, "UINT8"),
    "name": ({"values": SENT["FP32"], "datatype": "FP32", "name": "x"}, {}, "'images'"),
    "range": ({"values": SENT["FP32"] * 255, "datatype": "FP32"}, {}, "from 0 to 1"),
    "nan": ({"values": SENT["FP32"] * np.nan, "datatype": "FP32"}, {}, "from 0 to 1"),
    "output": (
        {"values": SENT["FP32"], "datatype": "FP32"},
        {"outputs": [triton.InferRequestedOutput("logits")]},
        "probabilities",
    ),
    "version": (
        {"values": SENT["FP32"], "datatype": "FP32"},
        {"model_version": "999"},
        f"it has: {VERSION}",
    ),
}


@pytest.mark.parametrize(
    ("wrong", "binary"),
    # As JSON the client itself refuses to write NaN.
    [(wrong, binary) for wrong in WRONG for binary in (True, False) if binary or wrong != "nan"],
)
def test_what_is_wrong_is_said(client: Any, wrong: str, binary: bool) -> None:
    sent, more, message = WRONG[wrong]
    with pytest.raises(InferenceServerException) as caught:
        client.infer(MODEL, [tensor(**sent, binary=binary)], **more)
    assert message in caught.value.message()
    assert caught.value.status() == ("404" if wrong == "version" else "400")


def test_an_unknown_model_is_said(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="mnist-lenet-metaplastic") as caught:
        client.infer("nonet", [tensor(SENT["FP32"], "FP32")])
    assert caught.value.status() == "404"
