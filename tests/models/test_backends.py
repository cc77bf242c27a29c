"""The same tests on other backends: neither learning rules nor training are TensorFlow code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
pytestmark = pytest.mark.slow

EVERYWHERE = [
    *("test_metaplastic.py", "test_synaptic_intelligence.py", "test_brainprop.py"),
    *("test_locally_connected.py", "test_flip_average.py"),
]
CONTRACT = "test_optimizer_contract.py"
QUICKLY_COMPILED = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # what is compiled runs a few times
UNCOMPILED = {"JAX_DISABLE_JIT": "1"}  # its thousands of single steps would be compiled one by one


@pytest.mark.parametrize(
    ("backend", "modules", "settings"),
    [
        pytest.param("jax", EVERYWHERE, QUICKLY_COMPILED, marks=pytest.mark.needs("jax")),
        pytest.param("jax", [CONTRACT], UNCOMPILED, marks=pytest.mark.needs("jax")),
        pytest.param(
            *("torch", [*EVERYWHERE, CONTRACT, "test_fast_clone.py"], {}),
            marks=pytest.mark.needs("torch"),
        ),
    ],
)
def test_the_tests_of_these_modules_pass_on(backend, modules, settings):
    environment = {**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu", **settings}
    files = [str(TESTS / module) for module in modules]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "--all", *files]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


NO_TENSORFLOW = """
import sys

class Refuser:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tensorflow":
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Refuser())
"""


@pytest.mark.needs("jax")
def test_training_on_jax_needs_no_tensorflow_until_the_export(made_data, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(NO_TENSORFLOW)
    here = str(TESTS.parent.parent)
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "METAPLASTIC_DATA": str(made_data),
    }
    runs = tmp_path / "runs"

    def train(arguments, python_path):
        return subprocess.run(
            [sys.executable, "-m", "models", "train", *arguments],
            env={**environment, "PYTHONPATH": python_path},
            capture_output=True,
            text=True,
            check=False,
        )

    small = ["--set", "network={kernels = [4, 6], dense = [12]}"]
    arguments = ["mnist", "lenet", *small, "--epochs", "2", "--runs", str(runs)]
    without = train(arguments, os.pathsep.join([str(tmp_path), here]))
    (run,) = runs.iterdir()
    assert "epoch 2/2" in without.stderr
    assert without.returncode == 1
    assert f"`python -m models train --resume {run}` finishes the training" in without.stderr
    assert not (run / "card.json").exists()

    ended = train(["--resume", str(run)], here)
    assert ended.returncode == 0, ended.stderr
    assert (run / "card.json").exists()
    assert "epoch" not in ended.stderr.replace("epochs", "")
