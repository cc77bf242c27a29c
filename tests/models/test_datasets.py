"""Where the data comes from, and how it is split."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.data.datasets import DATASETS, DataError, load, scaled, split, whereabouts


def write_npz(folder, **arrays):
    np.savez(folder / "mnist.npz", **arrays)


def arrays(n=20, shape=(28, 28)):
    labels = (np.arange(n) % 10).astype(np.uint8)
    images = np.zeros((n, *shape), np.uint8)
    return {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("METAPLASTIC_DATA", str(tmp_path))
    return tmp_path


def test_grey_images_gain_a_channel(folder):
    write_npz(folder, **arrays())
    assert load("mnist").x_train.shape == (20, 28, 28, 1)
    write_npz(folder, **arrays(shape=(28, 28, 1)))
    assert load("mnist").x_train.shape == (20, 28, 28, 1)


def test_a_folder_without_the_file_is_named_with_what_to_do(folder):
    with pytest.raises(DataError, match=r"mnist\.npz cannot be read.*METAPLASTIC_DATA"):
        load("mnist")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": np.zeros((20, 28, 28))}, "x_train must be uint8 N x 28 x 28 x 1"),
        ({"x_test": np.zeros((20, 32, 32), np.uint8)}, "x_test must be uint8"),
        ({"y_train": np.zeros(3, np.uint8)}, "y_train must be 20 labels"),
        ({"y_test": np.full(20, 10, np.uint8)}, r"labels in 0\.\.9"),
    ],
)
def test_arrays_that_are_not_the_data_set_are_refused(folder, change, message):
    write_npz(folder, **{**arrays(), **change})
    with pytest.raises(DataError, match=message):
        load("mnist")


def test_a_file_without_the_arrays_or_with_pickles_is_refused(folder):
    write_npz(folder, x_train=np.zeros(3))
    with pytest.raises(DataError, match="must hold the arrays"):
        load("mnist")
    write_npz(folder, **{**arrays(), "x_train": np.array([{}], object)})
    with pytest.raises(DataError, match="must hold the arrays"):
        load("mnist")


def test_an_unknown_data_set_is_refused_with_the_names_there_are():
    with pytest.raises(DataError, match="no data set is called 'letters'; there are: mnist"):
        load("letters")


@pytest.mark.slow
def test_where_nothing_can_be_downloaded_the_message_says_what_to_do(tmp_path):
    """A real attempt, in a process whose way out is closed and whose cache is empty."""
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "KERAS_HOME": str(tmp_path),
        "https_proxy": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
    environment.pop("METAPLASTIC_DATA", None)
    done = subprocess.run(
        [sys.executable, "-m", "models", "train", "mnist", "lenet", "--runs", str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "mnist could not be downloaded" in done.stderr
    assert "set METAPLASTIC_DATA to that folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_split_holds_out_the_same_share_of_each_class_and_never_an_image_twice():
    labels = np.repeat(np.arange(10), [10, 20, 30, 40, 50, 60, 70, 80, 90, 100])
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    numbered = np.arange(len(labels)).reshape(-1, 1, 1, 1)
    (x_train, _), (x_held, y_held) = split(numbered, labels, 0.2)
    assert sorted([*x_train.ravel(), *x_held.ravel()]) == list(range(len(labels)))
    assert np.bincount(y_held).tolist() == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]
    assert (labels[x_held.ravel()] == y_held).all()
    again = split(images, labels, 0.2)[1][0]
    assert (again.ravel() == x_held.ravel().astype(np.uint8)).all()


@pytest.mark.parametrize("share", [0, 1, -0.1, 0.001])
def test_a_share_that_leaves_a_side_empty_is_refused(share):
    labels = np.arange(20) % 10
    with pytest.raises(DataError, match="validation"):
        split(np.zeros((20, 1, 1, 1), np.uint8), labels, share)


def test_scaled_images_are_float32_in_0_to_1():
    images = scaled(np.array([[[[0]], [[255]]]], np.uint8))
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)


@pytest.mark.parametrize(
    ("name", "classes"), [("mnist", 10), ("cifar10", 10), ("cifar100", 100), ("tiny-imagenet", 200)]
)
def test_each_class_has_a_name_of_its_own(name, classes):
    labels = DATASETS[name].labels
    assert len(set(labels)) == len(labels) == classes
    assert all(label == label.strip() and "\n" not in label for label in labels)


def test_cifar100s_labels_are_numbered_as_published():
    labels = DATASETS["cifar100"].labels
    assert [labels[i] for i in (0, 1, 8, 50, 99)] == [
        *("apple", "aquarium fish", "bicycle", "mouse", "worm")
    ]
    assert list(labels) == sorted(labels)


@pytest.mark.data
@pytest.mark.parametrize("name", DATASETS)
def test_the_real_data_has_the_mean_and_deviation_of_its_card(name):
    if not Path(whereabouts(DATASETS[name])).exists():
        pytest.skip(f"METAPLASTIC_DATA has no {name}")
    data, images = DATASETS[name], load(name).x_train
    values = np.arange(256) / 255
    for channel, (mean, std) in enumerate(zip(data.input.mean, data.input.std, strict=True)):
        shares = np.bincount(images[..., channel].ravel(), minlength=256) / images[..., 0].size
        assert shares @ values == pytest.approx(mean, abs=1e-4)
        assert np.sqrt(shares @ (values - mean) ** 2) == pytest.approx(std, abs=1e-3)
