"""One training on several devices of JAX: the same losses as on one."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.__main__ import main

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.needs("jax")]
SETTINGS = ["--epochs", "2", "--set", "network.kernels=[4, 6]"]
# All trainings in one process, which starts JAX and TensorFlow once.
ONE_AND_TWO_DEVICES = """
import sys
from models.__main__ import main

one, two, none, *settings = sys.argv[1:]
train = ["train", "mnist", "lenet", *settings]
assert main([*train, "--batch-size", "64", "--runs", one]) == 0
assert main([*train, "--batch-size", "64", "--runs", two, "--data-parallel"]) == 0
assert main([*train, "--batch-size", "63", "--runs", none, "--data-parallel"]) == 1
"""


def losses(runs):
    (history,) = runs.glob("*/history.csv")
    with history.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return np.array([[float(row[name]) for name in ("loss", "val_loss")] for row in rows])


def test_two_devices_have_the_losses_of_one_and_a_batch_that_cannot_be_divided_says_so(
    made_data, tmp_path
):
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "METAPLASTIC_DATA": str(made_data),
    }
    one, two, none = (tmp_path / name for name in ("one", "two", "none"))
    done = subprocess.run(
        [sys.executable, "-c", ONE_AND_TWO_DEVICES, *map(str, (one, two, none)), *SETTINGS],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert losses(one).shape == (2, 2)
    np.testing.assert_allclose(losses(two), losses(one), rtol=1e-4)
    cards = [next(runs.glob("*/card.json")).read_text() for runs in (one, two)]
    assert ["2 devices" in card for card in cards] == [False, True]
    assert "a batch of 63 images cannot be divided by 2 devices" in done.stderr
    assert list(none.glob("mnist-*")) == []  # and no run is begun


@pytest.mark.usefixtures("on_made_data")
def test_other_backends_say_what_to_do(tmp_path, capsys):
    command = ["train", "mnist", "lenet", *SETTINGS, "--runs", str(tmp_path), "--data-parallel"]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "works on JAX, not on tensorflow: set KERAS_BACKEND=jax" in said
    assert list(tmp_path.glob("mnist-*")) == []  # and no run is begun
