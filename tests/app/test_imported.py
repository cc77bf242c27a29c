"""A network that was trained elsewhere has every surface that the others have."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from flask.testing import FlaskClient
from onnx import helper, numpy_helper
from PIL import Image

from app import create_app
from app.catalogue.catalogue import RepositoryError
from app.classify import main as classify_folder
from app.settings import CPU, Settings, SettingsError
from models.publishing.importing import Said, import_model
from tests.app.conftest import DocumentedClient
from tests.models.networks import COLOURS, colours, labels
from tests.models.test_import import paint

PLAIN, KNOWN = "/api/test/plain", "/api/test/known"


def picture(*colour: int, size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


RED, BLUE = picture(220, 20, 10), picture(10, 20, 220)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two imported networks, one with labelled pictures and one without."""
    root = tmp_path_factory.mktemp("imported")
    model, names = colours(root / "net.onnx", size=64), labels(root / "labels.txt")
    said = {"labels": names, "scale": 1 / 255}
    import_model("test/plain", model, Said(**said), root / "shelf", "python -m models import")
    calibrated = Said(**said, calibrate=paint(root / "in", 20))
    import_model("test/known", model, calibrated, root / "shelf", "python -m models import")
    return root / "shelf"


@pytest.fixture(scope="module")
def client(shelf: Path) -> FlaskClient:
    application = create_app(Settings(weights=shelf))
    application.test_client_class = DocumentedClient
    return application.test_client()


def ask(client: FlaskClient, path: str, image: bytes, **query: Any) -> Any:
    response = client.post(path, data=image, content_type="image/png", query_string=query)
    assert response.status_code == 200, response.text
    return response.json


def test_it_answers_and_says_null_where_nobody_can_know(client: FlaskClient) -> None:
    for image, label in ((RED, "red"), (BLUE, "blue")):
        (seen,) = ask(client, PLAIN, image)["predictions"]
        assert (seen["label"], seen["in_distribution"]) == (label, None)
        assert seen["preprocessing"] == ["cropped to the middle 30x30", "resized to 64x64"]
    (seen,) = ask(client, KNOWN, RED)["predictions"]
    assert seen["in_distribution"] is False  # a plain colour: the pictures were noisier


def test_its_card_says_where_it_comes_from(client: FlaskClient) -> None:
    card = client.get(PLAIN).json["card"]
    assert card["imported"]["file"] == "net.onnx"
    assert card["imported"]["producer"] == "a test"
    assert not {"training", "calibration", "validation", "test"} & set(card)
    card = client.get(KNOWN).json["card"]
    assert card["validation"]["accuracy"] == 0.9
    assert client.get("/api/models").json["models"][0]["rule"] == "imported"
    for rest in ("history", "curves.png", "confusion.png"):
        assert client.get(f"{PLAIN}/{rest}").status_code == 404


def test_it_is_explained_and_compared(client: FlaskClient) -> None:
    found = ask(client, f"{PLAIN}/explain", RED)
    assert (found["label"], len(found["heat"])) == ("red", 64)
    compared = ask(client, "/api/test/compare", BLUE)
    assert compared["agree"]
    assert [row["architecture"] for row in compared["results"]] == ["known", "plain"]


@pytest.mark.parametrize("name", ["plain", "known"])
def test_the_standard_protocol_has_the_outputs_that_there_are(
    client: FlaskClient, name: str
) -> None:
    path = f"/v2/models/test-{name}-imported"
    expected = ["probabilities", "in_distribution"][: 1 if name == "plain" else 2]
    assert [one["name"] for one in client.get(path).json["outputs"]] == expected
    assert [one["name"] for one in client.get(f"{path}/config").json["output"]] == expected
    tensor = {"name": "images", "shape": [1, 64, 64, 3], "datatype": "UINT8"}
    asked = {"inputs": [{**tensor, "data": [10, 20, 220] * 64 * 64}]}
    answer = client.post(f"{path}/infer", json=asked).json
    assert [one["name"] for one in answer["outputs"]] == expected
    assert np.argmax(answer["outputs"][0]["data"]) == 2
    named = client.post(f"{path}/infer", json={**asked, "outputs": [{"name": "in_distribution"}]})
    assert named.status_code == (400 if name == "plain" else 200)


def test_whole_pictures_as_bytes_are_classified(client: FlaskClient) -> None:
    size, head = 64 * 64 * 3, {}
    tensor = {"name": "images", "shape": [1, 64, 64, 3], "datatype": "UINT8"}
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": size}}]}).encode()
    pixels = np.tile(np.array([220, 20, 10], np.uint8), 64 * 64).tobytes()
    answer = client.post(
        "/v2/models/test-plain-imported/infer",
        data=head + pixels,
        headers={"Inference-Header-Content-Length": str(len(head))},
    ).json
    assert np.argmax(answer["outputs"][0]["data"]) == 0


def test_its_pages_say_that_it_was_imported(client: FlaskClient) -> None:
    page = client.get("/demo/models/test/plain").text
    assert "Imported from <code>net.onnx</code>" in page
    assert "It was trained" not in page
    assert "Train it again" not in page
    assert "without labelled pictures" in page
    page = client.get("/demo/models/test/known").text
    assert "Calibration accuracy" in page
    assert "90.00" in page
    assert client.get("/demo").status_code == client.get("/demo/models").status_code == 200


@pytest.mark.parametrize("source", ["in", "in.tar", "in.zip"])
def test_many_pictures_are_classified_with_an_empty_column(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setenv("METAPLASTIC_WEIGHTS", str(shelf))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "red.png").write_bytes(RED)
    if source != "in":
        shutil.make_archive(str(tmp_path / "in"), source.rpartition(".")[2], tmp_path / "in")
    out = tmp_path / "out.csv"
    command = [str(tmp_path / source), "--model", "test/plain", "--out", str(out)]
    assert classify_folder([*command, "--processes", "1"]) == 0
    (row,) = csv.DictReader(out.read_text().splitlines())
    assert (row["label"], row["in_distribution"]) == ("red", "")


def test_a_table_in_parquet_leaves_open_what_is_not_known(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setenv("METAPLASTIC_WEIGHTS", str(shelf))
    (tmp_path / "in").mkdir()
    out = tmp_path / "table.parquet"
    for name in ("a.png", "b.png"):  # the second time, the first row is read and written again
        (tmp_path / "in" / name).write_bytes(RED)
        assert (
            classify_folder([str(tmp_path / "in"), "--model", "test/plain", "--out", str(out)]) == 0
        )
    assert parquet.read_table(out)["in_distribution"].to_pylist() == [None, None]


def test_a_picture_for_which_it_computes_no_number_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load(colours(tmp_path / "net.onnx"))
    limit = numpy_helper.from_array(np.float32(0.9), "limit")  # above it, a root of what is below 0
    model.graph.initializer.append(limit)
    last = model.graph.node[-1]
    last.input[0] = "fit"
    model.graph.node.insert(
        len(model.graph.node) - 1, helper.make_node("Add", ["y", "root"], ["fit"])
    )
    for number, node in enumerate(
        (
            helper.make_node("ReduceMax", ["x"], ["most"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("ReduceMean", ["means"], ["grey"], axes=[1], keepdims=1),
            helper.make_node("Sub", ["limit", "grey"], ["left"]),
            helper.make_node("Sqrt", ["left"], ["root"]),
        )
    ):
        model.graph.node.insert(2 + number, node)
    onnx.save(model, tmp_path / "net.onnx")
    said = Said(labels(tmp_path / "labels.txt"), scale=1 / 255)
    import_model("test/net", tmp_path / "net.onnx", said, tmp_path / "shelf", "a test")
    application = create_app(Settings(weights=tmp_path / "shelf"))
    application.test_client_class = DocumentedClient
    client = application.test_client()
    white = picture(255, 255, 255)
    for path in ("/api/test/net", "/api/test/net/explain", "/predict"):
        response = client.post(path, data=white, content_type="image/png")
        assert (response.status_code, response.json["code"]) == (422, "no_number")
    assert client.post("/predict", data=RED, content_type="image/png").status_code == 200
    monkeypatch.setenv("METAPLASTIC_WEIGHTS", str(tmp_path / "shelf"))
    folder, out = tmp_path / "in", tmp_path / "table.csv"
    folder.mkdir()
    for name, content in (("1.png", RED), ("2.png", white), ("3.png", BLUE)):
        (folder / name).write_bytes(content)
    assert classify_folder([str(folder), "--model", "test/net", "--out", str(out)]) == 1
    assert [row["label"] for row in csv.DictReader(out.read_text().splitlines())] == ["red", "blue"]
    (error,) = csv.DictReader((tmp_path / "table.errors.csv").read_text().splitlines())
    assert error["file"] == "2.png"
    assert error["error"].startswith("The network computes no number")


def test_the_providers_are_onnx_runtimes_and_a_missing_one_stops_the_start(shelf: Path) -> None:
    name = "METAPLASTIC_PROVIDERS"
    wanted = Settings.from_environment({name: f"CUDAExecutionProvider, {CPU}"})
    assert wanted.providers == ("CUDAExecutionProvider", CPU)
    with pytest.raises(
        RepositoryError, match=r"METAPLASTIC_PROVIDERS.*pip install onnxruntime-gpu"
    ):
        create_app(Settings(weights=shelf, providers=wanted.providers))
    with pytest.raises(RepositoryError, match="Install a build of ONNX Runtime"):
        create_app(Settings(weights=shelf, providers=("MadeUpExecutionProvider",)))
    for wrong in ("cuda", "CUDAExecutionProvider,,", f"{CPU},{CPU}"):
        with pytest.raises(SettingsError, match="METAPLASTIC_PROVIDERS: expected"):
            Settings.from_environment({name: wrong})


def test_a_network_runs_on_the_providers_that_were_named(shelf: Path) -> None:
    # The usual build of ONNX Runtime has one more than the processor's.
    both = ("AzureExecutionProvider", CPU)
    application = create_app(Settings(weights=shelf, providers=both))
    (seen,) = ask(application.test_client(), PLAIN, RED)["predictions"]
    assert seen["label"] == COLOURS[0]
    models = application.extensions["catalogue"]
    assert {model.providers for model in models} == {both}
