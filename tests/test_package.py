"""The package `metaplastic`: what `pip install .` brings, and the command that comes with it."""

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.e2e.conftest import environment, free_port, running_command

ROOT = Path(__file__).parent.parent
RULES = ROOT / "models" / "plasticity"

FIT = """
import sys

import keras
import numpy as np

from metaplastic import Metaplastic, RewardPredictionError, SynapticIntelligence

random = np.random.default_rng(0)
x = random.normal(size=(256, 8)).astype("float32")
y = np.eye(2)[(x.sum(axis=1) > 0).astype(int)]
for optimizer in (
    Metaplastic(keras.optimizers.Adam(0.02), rule="consolidating", strength=0.5),
    SynapticIntelligence(keras.optimizers.Adam(0.02)),
):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    assert model.fit(x, y, epochs=20, verbose=0).history["accuracy"][-1] > 0.9
model.save("model.keras")
assert type(keras.saving.load_model("model.keras").optimizer) is SynapticIntelligence
ours = {name.split(".")[0] for name in sys.modules} & {"app", "models", "studies", "flask"}
assert not ours, ours
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that `pip install .` builds, made of a copy and without a network."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("pyproject.toml", "LICENSE", "metaplastic_command.py", "docs/learning-rules.md"):
        (copy / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    hidden = shutil.ignore_patterns("__pycache__")
    shutil.copytree(RULES, copy / "models" / "plasticity", ignore=hidden)
    offline = ("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "wheel", "-q", *offline, "-w", copy / "out", copy]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = (copy / "out").iterdir()
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, as pip puts it there."""
    target = tmp_path_factory.mktemp("site")
    options = ("--no-deps", "--no-index", "--disable-pip-version-check", "--target", target)
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *options, wheel], check=True)
    return target


def run(command: list[object], site: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_rules_import_each_other_keras_and_numpy_alone() -> None:
    for path in RULES.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module)]
            outside = {name.split(".")[0] for name in names} - sys.stdlib_module_names
            assert outside <= {"keras", "numpy"}, path


@pytest.mark.slow
def test_the_wheel_has_the_files_of_the_rules_and_needs_keras_and_numpy(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.endswith(".py")}
        assert names == {
            "metaplastic_command.py",
            *(f"metaplastic/{path.name}" for path in RULES.glob("*.py")),
        }
        for path in RULES.glob("*.py"):
            assert archive.read(f"metaplastic/{path.name}") == path.read_bytes()
        (about,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        needed = [
            line.split()[1].partition(">")[0]
            for line in archive.read(about).decode().splitlines()
            if line.startswith("Requires-Dist")
        ]
    assert sorted(needed) == ["keras", "numpy"]
    assert wheel.stat().st_size < 50_000


@pytest.mark.slow
def test_the_package_trains_without_the_rest_of_the_project(
    installed: Path, tmp_path: Path
) -> None:
    done = run([sys.executable, "-c", FIT], installed, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_command_runs_the_programs_in_the_folder_of_the_project(
    installed: Path, tmp_path: Path
) -> None:
    command = installed / "bin" / "metaplastic"
    assert "mnist-lenet-metaplastic" in run([command, "list"], installed, ROOT).stdout
    assert "python -m app.classify" in run([command, "classify", "-h"], installed, ROOT).stdout
    assert "--resume RUN" in run([command, "train", "-h"], installed, ROOT).stdout
    assert run([command, "serve", "fast"], installed, ROOT).returncode == 2
    assert "metaplastic COMMAND" in run([command, "--help"], installed, tmp_path).stdout
    elsewhere = run([command, "list"], installed, tmp_path)
    assert elsewhere.returncode == 1
    assert "clone the repository" in elsewhere.stderr
    assert run([command], installed, ROOT).returncode == 2


@pytest.mark.slow
def test_the_command_serves_until_it_is_ended(installed: Path) -> None:
    port = free_port()
    variables = {**environment(port=port), "PYTHONPATH": str(installed)}
    command = [sys.executable, str(installed / "bin" / "metaplastic"), "serve"]
    with running_command(command, port, variables) as service:
        status, said = service.stop()
    assert status == 0
    assert "Serving on" in said
