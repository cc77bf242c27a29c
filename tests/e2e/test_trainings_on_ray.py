"""Studies and trainings on a real Ray cluster, whose nodes get the data from the program."""

import csv
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.ray_cluster import Cluster

# The study `metaplasticity` with two trials of a second.
STUDY = """
import sys
from models.__main__ import main
from studies import commands
from studies.plan import Budget, Group

conditions = {"clean": Budget(60, 2)}
strengths = {"consolidating": (3.0,)}
group = Group(
    "mnist", "lenet", "sgd", conditions=conditions, seeds=1, rates=(0.01,), strengths=strengths
)
commands.STUDIES["metaplasticity"] = {"metaplasticity": (group,)}
sys.exit(main(sys.argv[1:]))
"""
RECIPES = """
[defaults]
rules = ["metaplastic", "backprop"]
epochs = 2
batch_size = 50
validation = 0.2
seed = 0
optimizer = "sgd"
learning_rate = 0.01
warmup = 0.0
schedule = "constant"
weight_decay = 0.0
label_smoothing = 0.0
metaplastic = { rule = "kernel", strength = 0.5 }

[mnist.lenet]
network = { kernels = [4, 6], dense = [12] }
"""
ALL = """
import sys
from pathlib import Path
from models.__main__ import main
from models.training import recipes

recipes.RECIPES = Path(sys.argv[1])
sys.exit(main(sys.argv[2:]))
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variable that names a folder with a made mnist.npz, which only the program has."""
    folder = tmp_path_factory.mktemp("data")
    labels = np.repeat(np.arange(10, dtype=np.uint8), 40)
    random = np.random.default_rng(27)
    prototypes = random.integers(0, 200, (10, 28, 28))
    images = (prototypes[labels] + random.integers(0, 56, (len(labels), 28, 28))).astype(np.uint8)
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    np.savez(folder / "mnist.npz", **arrays)
    return {"METAPLASTIC_DATA": str(folder)}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_study_of_two_trials_is_carried_out_and_a_rerun_trains_nothing(
    cluster: Cluster, tmp_path: Path, data: dict[str, str]
) -> None:
    command = ["-c", STUDY, "compare", "metaplasticity", "--results", str(tmp_path / "results")]
    command += ["--studies", str(tmp_path / "trials"), "--on", cluster.address]
    done = cluster.run(*command, **data)
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path / "results" / "metaplasticity.csv")
    assert {row["rule"] for row in found} == {"plain", "consolidating"}
    assert "mnist lenet sgd" in done.stdout
    before = (tmp_path / "results" / "metaplasticity.csv").read_bytes()
    again = cluster.run(*command, **data)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "results" / "metaplasticity.csv").read_bytes() == before
    plain = ["-c", STUDY, "compare", "metaplasticity", "--results", str(tmp_path / "here")]
    done = cluster.run(*plain, "--studies", str(tmp_path / "trials-here"), **data)
    assert done.returncode == 0, done.stderr
    measured = ("rule", "seed", "train", "validation", "test")
    alike = [
        sorted(tuple(row[name] for name in measured) for row in table)
        for table in (found, rows(tmp_path / "here" / "metaplasticity.csv"))
    ]
    assert [row[:2] for row in alike[0]] == [row[:2] for row in alike[1]]
    for ours, theirs in zip(*alike, strict=True):
        assert np.allclose([*map(float, ours[2:])], [*map(float, theirs[2:])], atol=0.05)


def test_a_training_whose_process_is_killed_goes_on_and_train_all_does_what_is_missing(
    cluster: Cluster, tmp_path: Path, data: dict[str, str]
) -> None:
    (tmp_path / "recipes.toml").write_text(RECIPES)
    runs, weights = tmp_path / "runs", tmp_path / "weights"
    weights.mkdir()
    command = ["-c", ALL, str(tmp_path / "recipes.toml"), "train-all", "--runs", str(runs)]
    command += ["--repository", str(weights), "--on", cluster.address]
    process = cluster.start(*command, **data)
    os.kill(cluster.first_at_work("_carry_out"), signal.SIGKILL)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert len(list(runs.glob("mnist-lenet-metaplastic-*/card.json"))) == 1
    assert len(list(runs.glob("mnist-lenet-backprop-*/card.json"))) == 1
    assert len(list(runs.iterdir())) == 2
    again = cluster.run(*command, **data)
    assert again.returncode == 0, again.stderr
    assert "trained now" not in again.stdout
    assert len(list(runs.iterdir())) == 2
