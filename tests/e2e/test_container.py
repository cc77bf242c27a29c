"""The container, as the Dockerfile makes it, where there is no Docker: see container.py."""

import io
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy
import pytest
import requests
from PIL import Image as Picture

from tests.e2e import container
from tests.e2e.conftest import PATIENCE, ROOT, Service, free_port

SAMPLES = ROOT / "app" / "static" / "samples" / "mnist"
LEARNING = {"tensorflow", "keras", "jax", "torch", "onnx", "tf2onnx", "h5py", "matplotlib", "pip"}
MODEL_FILES = {
    "model.onnx",
    "model.int8.onnx",
    "history.csv",
    "card.json",
    "curves.png",
    "confusion.png",
}


@pytest.fixture(scope="module")
def image() -> Iterator[container.Image]:
    """The built image, read-only. Not in pytest's own folder, which is closed to other users."""
    with tempfile.TemporaryDirectory(prefix="metaplastic-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        download(folder / "packages")
        started = time.perf_counter()
        image = container.build(ROOT, folder, folder / "packages")
        print(f"\nbuilt in {time.perf_counter() - started:.0f} s:", *sizes(image), sep="\n")
        image.freeze()
        yield image
        for path in [image.root, *image.root.rglob("*")]:
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)  # else only root could remove it


def download(folder: Path) -> None:
    """Fetch what the container installs, or leave the test out where pip cannot reach it."""
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "-r", "requirements-serve.txt"]
    result = subprocess.run(
        [*fetch, "--dest", folder, "--timeout", "5", "--retries", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        problem = result.stderr.strip().rpartition("\n")[2]
        pytest.skip(f"building the container takes packages that pip cannot fetch here: {problem}")


def sizes(image: container.Image) -> Iterator[str]:
    for name in ("/opt/venv", "/app", "/app/weights"):
        files = [path for path in image.path(name).rglob("*") if path.is_file()]
        yield f"  {name}: {sum(path.stat().st_size for path in files) / 1e6:.1f} MB"


@contextmanager
def running(image: container.Image) -> Iterator[Service]:
    """The image's CMD, ready, on a port of its own."""
    port, started = free_port(), time.perf_counter()
    process = image.start(image.command, METAPLASTIC_PORT=port)
    service = Service(process, port, 0.0)
    try:
        while process.poll() is None and time.perf_counter() - started < PATIENCE:
            with suppress(requests.ConnectionError):
                if requests.get(f"{service.url}/health/ready", timeout=PATIENCE).ok:
                    break
            time.sleep(0.005)  # between two looks, not in place of one
        else:
            process.kill()
            pytest.fail(f"The container is not ready:\n{process.communicate()[0]}")
        service.seconds_to_ready = time.perf_counter() - started
        yield service
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        with process:
            process.communicate(timeout=PATIENCE)


@pytest.fixture(scope="module")
def service(image: container.Image) -> Iterator[Service]:
    with running(image) as one:
        yield one


def test_the_container_is_given_the_service_and_its_models_and_nothing_else() -> None:
    names = container.build_context(ROOT)
    elsewhere = [name for name in names if not name.startswith(("app/", "weights/"))]
    shared = (
        "__init__",
        "aliases",
        "calibration",
        "cards",
        "errors",
        "files",
        "parsing",
        "pictures",
        "processor",
        "terminal",
        "votes",
    )
    assert elsewhere == [
        "constraints.txt",
        *(f"models/{name}.py" for name in shared),
        "requirements-serve.txt",
        "wsgi.py",
    ]
    weights = {name.rpartition("/")[2] for name in names if name.startswith("weights/")}
    assert {"model.onnx", "card.json"} <= weights <= MODEL_FILES
    assert not [name for name in names if name.endswith(".pyc")]


@pytest.mark.slow
def test_the_container_has_no_machine_learning_installed(image: container.Image) -> None:
    script = (
        "import importlib.metadata as m, json; print(json.dumps(list(m.packages_distributions())))"
    )
    status, output = image.run(["python", "-c", script])
    assert status == 0, output
    installed = set(json.loads(output))
    assert {"flask", "onnxruntime"} <= installed
    assert not installed & LEARNING


@pytest.mark.slow
def test_the_container_carries_what_runs_and_not_what_it_was_made_from(
    image: container.Image,
) -> None:
    names = {path.name for path in image.path("/app/weights").rglob("*") if path.is_file()}
    assert {"model.onnx", "card.json"} <= names <= MODEL_FILES
    assert not image.path("/build").exists()


@pytest.mark.slow
def test_the_container_runs_as_an_ordinary_user_who_can_write_nothing(
    image: container.Image,
) -> None:
    status, output = image.run(["python", "-c", "import os; print(os.getuid()); open('x', 'w')"])
    assert status == 1
    assert output.partition("\n")[0] != "0"
    assert "PermissionError" in output
    assert image.user[0] > 0


@pytest.mark.slow
def test_a_start_compiles_nothing(image: container.Image) -> None:
    script = (
        "import os, sys, app.server.main; app.create_app(); "
        "caches = [getattr(m, '__cached__', None) for m in list(sys.modules.values())]; "
        "print(len(caches), [c for c in caches if c and not os.path.exists(c)])"
    )
    status, output = image.run(["python", "-c", script])
    assert status == 0, output
    assert output.endswith(" []\n")


@pytest.mark.slow
def test_the_container_is_reached_from_other_machines(image: container.Image) -> None:
    assert image.variables["METAPLASTIC_HOST"] == "0.0.0.0"
    assert image.port == 5000


@pytest.mark.slow
def test_the_health_check_tells_ready_from_not_there(
    image: container.Image, service: Service
) -> None:
    assert image.run(image.healthcheck, METAPLASTIC_PORT=free_port())[0] == 1
    status, output = image.run(
        image.healthcheck,
        METAPLASTIC_PORT=service.port,
        http_proxy=f"http://127.0.0.1:{free_port()}",
    )
    assert status == 0, output


@pytest.mark.slow
def test_the_container_classifies_a_sample_and_an_upload(service: Service) -> None:
    print(f"\nready after {service.seconds_to_ready:.2f} s")
    sample = requests.post(f"{service.url}/predict", data={"sample": "seven"}, timeout=PATIENCE)
    assert sample.json()["predictions"][0]["label"] == "7"
    upload = {"file": (SAMPLES / "three.png").read_bytes()}
    answer = requests.post(f"{service.url}/predict", files=upload, timeout=PATIENCE)
    assert answer.json()["predictions"][0]["label"] == "3"


@pytest.mark.slow
def test_the_container_takes_uploads_that_others_keep_in_temporary_files(
    service: Service,
) -> None:
    noise = numpy.random.default_rng(0).integers(0, 256, (900, 900, 3), numpy.uint8)
    buffer = io.BytesIO()
    Picture.fromarray(noise).save(buffer, "PNG")
    assert len(buffer.getvalue()) > 2_000_000
    upload = {"file": buffer.getvalue()}
    answer = requests.post(f"{service.url}/predict", files=upload, timeout=PATIENCE)
    assert answer.status_code in (200, 422), answer.text


@pytest.mark.slow
def test_the_container_stops_when_it_is_told_to(image: container.Image) -> None:
    assert image.stop_signal == signal.SIGTERM.name
    with running(image) as service:
        status, output = service.stop()
    assert status == 0, output
    assert "/api/mnist/lenet" in output


@pytest.mark.parametrize(
    "step",
    [
        "ADD app app",
        "FROM debian",
        "RUN --network=none true",
        "RUN rm -rf /var/lib/apt",
        "RUN <<END",
        "USER metaplastic",
        "CMD python wsgi.py",
        "COPY --chown=1:1 app app",
        "COPY app/*.py app/",
        "ENV HOME /app",
        "HEALTHCHECK NONE",
    ],
)
def test_a_step_that_cannot_be_carried_out_here_is_refused(step: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"{step}\n")
    (tmp_path / ".dockerignore").write_text("")
    with pytest.raises(container.UnsupportedError):
        container.build(tmp_path, tmp_path / "image", tmp_path)


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("README.md", True),
        ("app/api/health.py", False),
        ("app/__pycache__/a.pyc", True),
        ("app/api/__pycache__/a.pyc", True),
        ("models/cards.py", False),
        ("models/training/train.py", True),
        ("weights/a/b/model.onnx", False),
        ("weights/model.onnx", False),
        ("weights/a/b/model.keras", True),
    ],
)
def test_the_last_rule_that_matches_decides_what_is_ignored(path: str, ignored: bool) -> None:
    rules = "# rules\n*\n!app\n!models/cards.py\n!weights/**/model.onnx\n\n**/__pycache__\n"
    assert container.ignore_rules(rules)(path) is ignored
