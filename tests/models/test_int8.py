"""8-bit files: made from training images, calibrated, measured, and kept where they are as good."""

import dataclasses
import shutil

import keras
import numpy as np
import onnx
import pytest

from models.__main__ import main
from models.cards import CARD, INT8_MODEL, checksums, read_card, write_card
from models.data.datasets import load, split
from models.packaging.quantise import calibration_images
from models.packaging.running import onnx_logits
from models.packaging.scoring import calibrate

pytestmark = pytest.mark.usefixtures("on_made_data")


@pytest.fixture(scope="module")
def run(runs, made_data, tmp_path_factory):
    """A finished run with an 8-bit file."""
    folder = tmp_path_factory.mktemp("int8") / "run"
    shutil.copytree(runs["backprop"], folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAPLASTIC_DATA", str(made_data))
        assert main(["export", "--int8", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def published(runs, made_data, tmp_path_factory):
    """A published model that has none yet: its network is small."""
    shelf = tmp_path_factory.mktemp("shelf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAPLASTIC_DATA", str(made_data))
        assert main(["publish", str(runs["backprop"]), "--shelf", str(shelf)]) == 0
    folder = shelf / "mnist/lenet/backprop/1"
    assert read_card(folder).int8 is None
    return folder


@pytest.fixture
def copy(published, tmp_path):
    shutil.copytree(published, tmp_path / "model")
    return tmp_path / "model"


def test_the_file_holds_8_bit_weights_and_half_the_bytes(run):
    stored = onnx.load(run / INT8_MODEL).graph.initializer
    kernels = [item for item in stored if len(item.dims) > 1]
    assert {item.data_type for item in kernels} == {onnx.TensorProto.INT8}
    assert len(kernels) == 5
    assert (run / INT8_MODEL).stat().st_size < 0.6 * (run / "model.onnx").stat().st_size


def test_its_calibration_is_its_own_and_its_checksum_is_in_the_card(run):
    card = read_card(run)
    assert card.files == checksums(run)
    assert INT8_MODEL in card.files
    arrays = load("mnist")
    _, validation = split(arrays.x_train, arrays.y_train, 0.2)
    logits = onnx_logits(run, validation[0], INT8_MODEL)
    assert card.int8.calibration == calibrate(logits, validation)
    assert card.int8.calibration != card.calibration
    assert card.int8.validation_accuracy == (logits.argmax(axis=1) == validation[1]).mean()
    assert card.int8.test_accuracy is None


def test_its_ranges_are_set_by_300_training_images_alone():
    arrays = load("mnist")
    (training, _), (held_out, _) = split(arrays.x_train, arrays.y_train, 0.2)
    many = np.concatenate([training, training])
    chosen = calibration_images(many)
    assert len(chosen) == 300
    pool, others = ({image.tobytes() for image in part} for part in (training, held_out))
    assert {image.tobytes() for image in chosen} <= pool - others
    np.testing.assert_array_equal(chosen, calibration_images(many))


def test_the_test_images_change_nothing_in_its_answers(run, made_data, tmp_path, monkeypatch):
    with np.load(made_data / "mnist.npz") as arrays:
        np.savez(tmp_path / "mnist.npz", **{**arrays, "x_test": 255 - arrays["x_test"]})
    other = tmp_path / "run"
    shutil.copytree(run, other)
    (other / INT8_MODEL).unlink()
    monkeypatch.setenv("METAPLASTIC_DATA", str(tmp_path))
    assert main(["export", "--int8", str(other)]) == 0
    images = load("mnist").x_test
    ours, theirs = (onnx_logits(folder, images, INT8_MODEL) for folder in (run, other))
    np.testing.assert_array_equal(ours, theirs)


def test_of_a_published_model_the_card_says_what_it_reaches_and_evaluate_finds_it(copy, capsys):
    assert main(["export", "--int8", str(copy)]) == 0
    assert "of test images" in capsys.readouterr().out
    card = read_card(copy)
    assert abs(card.int8.test_accuracy - card.test.accuracy) <= 0.001
    assert card.int8.test_interval[0] <= card.int8.test_accuracy <= card.int8.test_interval[1]
    assert main(["evaluate", str(copy)]) == 0
    assert "mnist-lenet-backprop v1 int8" in capsys.readouterr().out
    wrong = dataclasses.replace(card.int8, test_accuracy=0.5)
    write_card(copy, dataclasses.replace(card, int8=wrong))
    assert main(["evaluate", str(copy)]) == 1
    assert capsys.readouterr().out.count("DIFFERS") == 1


def test_a_file_that_costs_accuracy_is_left_out_with_the_one_before(copy, capsys):
    """One unit that is always large leaves the others no steps, and nothing reads it."""
    network = keras.saving.load_model(copy / "model.keras", compile=False)
    hidden, output = (layer for layer in network.layers[-3:] if layer.weights)
    kernel, bias = hidden.get_weights()
    bias[0] = 1e4
    hidden.set_weights([kernel, bias])
    kernel, bias = output.get_weights()
    kernel[0] = 0
    output.set_weights([kernel, bias])
    network.save(copy / "model.keras")
    (copy / INT8_MODEL).write_bytes(b"the one before")
    assert main(["export", "--int8", str(copy)]) == 1
    assert "; left out" in capsys.readouterr().out
    assert not (copy / INT8_MODEL).exists()
    assert read_card(copy).int8 is None
    assert INT8_MODEL not in read_card(copy).files


def test_a_calibration_that_is_fitted_again_is_so_for_both_files(copy):
    assert main(["export", "--int8", str(copy)]) == 0
    card = read_card(copy)
    other = dataclasses.replace(card.int8.calibration, temperature=9.0)
    write_card(
        copy, dataclasses.replace(card, int8=dataclasses.replace(card.int8, calibration=other))
    )
    assert main(["calibrate", str(copy)]) == 0
    assert read_card(copy) == card


@pytest.mark.slow
def test_a_large_network_is_published_with_its_8_bit_file(tmp_path):
    runs, shelf = tmp_path / "runs", tmp_path / "weights"
    command = ["train", "mnist", "lenet", "--rule", "backprop", "--runs", str(runs)]
    settings = ["--epochs", "8", "--batch-size", "8", "--validation", "0.2"]
    wide = ["--set", "learning_rate=0.01", "--set", "network.kernels=[48, 96]"]
    assert main([*command, *settings, *wide]) == 0
    (made,) = runs.iterdir()
    assert main(["publish", str(made), "--shelf", str(shelf)]) == 0
    folder = shelf / "mnist/lenet/backprop/1"
    card = read_card(folder)
    assert card.multiply_adds >= 10_000_000
    assert card.int8.test_accuracy is not None
    assert card.files == checksums(folder)
    assert INT8_MODEL in card.files


def test_without_a_card_there_is_nothing_to_calibrate_by(run, tmp_path, capsys):
    shutil.copy(run / "model.keras", tmp_path)
    assert main(["export", "--int8", str(tmp_path)]) == 1
    assert f"holds no {CARD}" in capsys.readouterr().err
