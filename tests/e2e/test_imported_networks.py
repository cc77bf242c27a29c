"""From a file of another tool to an endpoint with every surface, by commands alone."""

import contextlib
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
import tritonclient.http as triton
from PIL import Image

from models.publishing.importing import Said, import_model
from tests.e2e.conftest import ROOT, Service, running
from tests.models.networks import colours, labels
from tests.models.test_import import paint

SIDE = 224
NORMALISED = ("--scale", "1/255", "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225")


def bring(*command: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "models", "import", *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def picture(path: Path, *colour: int) -> Path:
    Image.new("RGB", (640, 480), colour).save(path)
    return path


@pytest.mark.slow
@pytest.mark.needs("torch")
def test_a_network_exported_by_pytorch_becomes_an_endpoint(tmp_path, start):
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 7, stride=4),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 16, 3, stride=2),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 3),
    ).eval()
    zeros = torch.zeros(1, 3, SIDE, SIDE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the export without onnxscript
        torch.onnx.export(network, zeros, tmp_path / "net.onnx", dynamo=False)
    names, shelf = labels(tmp_path / "labels.txt"), tmp_path / "shelf"
    said = bring(
        *("test/net", tmp_path / "net.onnx", "--labels", names, *NORMALISED, "--repository", shelf)
    )
    assert "224x224x3 pixels as float32 NCHW, 3 logits" in said

    def expected(pixels: np.ndarray) -> np.ndarray:  # uint8 (N, 224, 224, 3)
        values = pixels.astype(np.float32) / 255
        values = (values - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        with torch.no_grad():
            logits = network(torch.tensor(values.transpose(0, 3, 1, 2), dtype=torch.float32))
        return np.asarray(torch.softmax(logits, 1))

    image = picture(tmp_path / "red.png", 200, 30, 20)
    pixels = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), np.uint8)
    pixels[0] = (200, 30, 20)
    with start(weights=shelf) as service:
        api = f"{service.url}/api/test/net"
        command = ["curl", "-s", "-F", f"file=@{image}", api]
        answer = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        (seen,) = answer["predictions"]
        found = {one["label"]: one["probability"] for one in seen["top"]}
        for name, share in zip(("red", "green", "blue"), expected(pixels[:1])[0], strict=True):
            assert found[name] == pytest.approx(share, abs=1e-5)
        assert seen["in_distribution"] is None

        client = triton.InferenceServerClient(service.url.removeprefix("http://"))
        for datatype, values in (("UINT8", pixels), ("FP32", pixels.astype(np.float32) / 255)):
            tensor = triton.InferInput("images", values.shape, datatype)
            tensor.set_data_from_numpy(values)
            got = client.infer("test-net-imported", [tensor]).as_numpy("probabilities")
            np.testing.assert_allclose(got, expected(pixels), atol=1e-5)

        with image.open("rb") as file:
            heat = requests.post(f"{api}/explain", files={"file": file}).json()
        assert np.shape(heat["heat"]) == (SIDE, SIDE)


@pytest.mark.slow
def test_mobilenet_from_keras_becomes_an_endpoint(tmp_path, start):
    import keras

    keras.utils.set_random_seed(0)
    network = keras.applications.MobileNetV2(weights=None)
    network.save(tmp_path / "net.keras")
    names = labels(tmp_path / "labels.txt", tuple(f"class {number}" for number in range(1000)))
    shelf, scaled = tmp_path / "shelf", ("--scale", "1/127.5", "--mean", "1")
    said = bring(
        *("test/net", tmp_path / "net.keras", "--labels", names, *scaled, "--repository", shelf)
    )
    assert "224x224x3 pixels as float32 NHWC, 1000 probabilities" in said
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    expected = network.predict(pixels / 127.5 - 1, verbose=0)
    with start(weights=shelf) as service:
        client = triton.InferenceServerClient(service.url.removeprefix("http://"))
        tensor = triton.InferInput("images", pixels.shape, "UINT8")
        tensor.set_data_from_numpy(pixels)
        got = client.infer("test-net-imported", [tensor]).as_numpy("probabilities")
        np.testing.assert_allclose(got, expected, atol=1e-6)
        image = picture(tmp_path / "grey.png", 90, 90, 90).read_bytes()
        kind = {"Content-Type": "image/png"}
        for path in ("", "/explain"):
            url = f"{service.url}/api/test/net{path}"
            assert requests.post(url, image, headers=kind).status_code == 200


def test_a_provider_that_is_missing_stops_the_start_in_one_line(fail_to_start):
    done = fail_to_start(providers="CUDAExecutionProvider,CPUExecutionProvider")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("METAPLASTIC_PROVIDERS: this ONNX Runtime has no CUDAExecutionProvider")
    assert "pip install onnxruntime-gpu" in line


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with two imported networks, one with labelled pictures and one without."""
    root = tmp_path_factory.mktemp("imported")
    model = colours(root / "net.onnx", size=SIDE)
    said = {"labels": labels(root / "labels.txt"), "scale": 1 / 255}
    import_model("test/plain", model, Said(**said), root / "shelf", "python -m models import")
    known = Said(**said, calibrate=paint(root / "in", 10))
    import_model("test/known", model, known, root / "shelf", "python -m models import")
    with running(weights=root / "shelf", model="test/plain") as one:
        yield one


@pytest.mark.slow
def test_the_demo_shows_an_imported_network_and_doubts_nothing_it_cannot_know(site, tmp_path):
    chromium = pytest.importorskip("tests.e2e.chromium")
    image = picture(tmp_path / "blue.png", 10, 20, 220)
    with contextlib.contextmanager(chromium.open_browser)(tmp_path) as browser:
        page = chromium.Page(browser, f"{site.url}/demo?dataset=test").ready()
        page.run("document.querySelector('#network').selectedIndex = 1")
        page.run("document.querySelector('#network').dispatchEvent(new Event('change'))")
        page.find("#choose").send_keys(str(image))
        page.wait(lambda: page.text("#label") == "blue")
        assert not page.find("#unlike").is_displayed()
        page.click("#explain")
        page.wait(lambda: page.find("#heat").get_attribute("aria-label") != "No explanation yet")
        for name in ("plain", "known"):
            shown = chromium.Page(browser, f"{site.url}/demo/models/test/{name}").ready()
            assert "net.onnx" in shown.text("main")
            problems = [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
            assert problems == []
