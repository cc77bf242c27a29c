"""`python -m models` as a user sees it: what it lists, and nothing that is not its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.__main__ import main
from models.data.datasets import DATASETS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two hundred dark and light pictures as MNIST."""
    labels = np.arange(200, dtype=np.uint8) % 10
    images = np.broadcast_to(25 * labels[:, None, None], (200, 28, 28))
    np.savez(tmp_path / "mnist.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    monkeypatch.setenv("METAPLASTIC_DATA", str(tmp_path))
    return tmp_path


def test_data_alone_says_which_data_sets_there_are_and_where(folder, capsys):
    assert main(["data"]) == 0
    _, _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == list(DATASETS)
    assert rows[0].split() == ["mnist", "28x28x1", "10", str(folder / "mnist.npz")]
    cifar = next(row for row in rows if row.startswith("cifar10 "))
    assert cifar.endswith("not there: METAPLASTIC_DATA has no cifar10.npz")
    assert rows[-1].endswith("not there: python -m models data tiny-imagenet")


def test_data_alone_says_what_keras_would_download(monkeypatch, capsys):
    monkeypatch.delenv("METAPLASTIC_DATA", raising=False)
    assert main(["data"]) == 0
    assert "downloaded by keras.datasets when first used" in capsys.readouterr().out.splitlines()[2]


def test_an_archive_without_its_data_set_is_a_wrong_call(capsys):
    with pytest.raises(SystemExit):
        main(["data", "--archive", "x.zip"])
    assert "data --archive needs the data set's name" in capsys.readouterr().err


def run(*command, **variables):
    return subprocess.run(
        [sys.executable, "-m", "models", *map(str, command)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "tensorflow", **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_tensorflow_prints_nothing_of_its_own(folder, tmp_path):
    runs = tmp_path / "runs"
    done = run("train", "mnist", "lenet", "--rule", "backprop", "--epochs", "1", "--runs", runs)
    assert done.returncode == 0, done.stderr
    ours = re.compile(r"epoch \d|$")
    assert [line for line in done.stderr.splitlines() if not ours.match(line)] == []


def test_a_backend_that_cannot_be_imported_is_still_reported(tmp_path):
    done = run("export", tmp_path, KERAS_BACKEND="nothing")
    assert done.returncode == 1
    assert "nothing" in done.stderr


def test_names_of_folders_and_words_of_cards_do_not_command_the_terminal(tmp_path, capsys):
    published = ROOT / "weights/mnist/lenet/backprop/4"
    run = tmp_path / "runs" / "\x1b]0;owned\x07"
    run.mkdir(parents=True)
    card = json.loads((published / "card.json").read_text())
    (run / "card.json").write_text(json.dumps({**card, "dataset": "mnist\x1b[2J\n"}))
    assert (
        main(["list", "--repository", str(tmp_path / "none"), "--runs", str(tmp_path / "runs")])
        == 0
    )
    told = capsys.readouterr().out
    assert r"mnist\x1b[2J\n" in told
    assert r"\x1b]0;owned\x07" in told
    assert "\x1b" not in told
    assert len(told.splitlines()) == 3
    assert main(["evaluate", str(run), "--repository", str(tmp_path)]) == 1
    with pytest.raises(SystemExit):
        main(["publish", "x", "\x1b[2J"])
    assert "\x1b" not in capsys.readouterr().err
