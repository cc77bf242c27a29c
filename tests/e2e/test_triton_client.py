"""NVIDIA's client for the Open Inference Protocol, unchanged, against a running service."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from tests.e2e.conftest import Service
from tests.e2e.digits import LABELS, MODEL, VERSION, as_bytes, as_floats

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
    assert {"binary_tensor_data", "classification", "model_repository"} <= set(server["extensions"])
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
