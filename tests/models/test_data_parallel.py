"""One training on several devices of JAX: the same losses as on one."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.needs("jax")]


def train(data, runs, devices, *options, backend="jax"):
    """Train a LeNet on virtual devices of the processor; what the process said."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "METAPLASTIC_DATA": str(data),
    }
    command = [sys.executable, "-m", "models", "train", "mnist", "lenet", "--runs", str(runs)]
    settings = ["--epochs", "2", "--batch-size", "64", "--set", "network.kernels=[4, 6]"]
    return subprocess.run(
        [*command, *settings, *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def losses(runs):
    (history,) = runs.glob("*/history.csv")
    with history.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return np.array([[float(row[name]) for name in ("loss", "val_loss")] for row in rows])


def test_two_devices_have_the_losses_of_one(made_data, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    done = train(made_data, one, 1)
    assert done.returncode == 0, done.stderr
    done = train(made_data, two, 2, "--data-parallel")
    assert done.returncode == 0, done.stderr
    assert losses(one).shape == (2, 2)
    np.testing.assert_allclose(losses(two), losses(one), rtol=1e-4)
    (card,) = two.glob("*/card.json")
    assert "2 devices" in card.read_text()


@pytest.mark.parametrize(
    ("devices", "backend", "told"),
    [
        (3, "jax", "a batch of 64 images cannot be divided by 3 devices"),
        (1, "tensorflow", "works on JAX, not on tensorflow: set KERAS_BACKEND=jax"),
    ],
)
def test_what_cannot_be_divided_says_why(made_data, tmp_path, devices, backend, told):
    done = train(made_data, tmp_path, devices, "--data-parallel", backend=backend)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.glob("mnist-*")) == []  # and no run is begun
