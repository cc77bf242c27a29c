"""Averaged weights: the mean of the last epochs, with statistics that fit it."""

import keras
import numpy as np
import pytest

from models.__main__ import main
from models.cards import read_card
from models.data.batches import TrainingBatches
from models.training.averaging import keep_tail, measure_batch_norm, tail_mean
from models.training.recipes import recipe_for
from models.training.runs import read_history, start_run
from models.training.train import fit


def test_the_mean_is_that_of_the_last_epochs_and_older_ones_are_dropped(tmp_path):
    for epoch in range(1, 6):
        keep_tail(tmp_path, epoch, [np.full(2, epoch, np.float32), np.float32([[epoch**2]])], 3)
    assert len(list(tmp_path.iterdir())) == 3
    numbers, squares = tail_mean(tmp_path, 5, 3)
    assert numbers.tolist() == [4, 4]
    assert squares.tolist() == [[pytest.approx(50 / 3)]]


def test_of_fewer_epochs_than_are_asked_for_all_count(tmp_path):
    for epoch in (1, 2):
        keep_tail(tmp_path, epoch, [np.float32([epoch])], 5)
    assert tail_mean(tmp_path, 2, 5)[0].tolist() == [1.5]


def test_batch_normalisation_gets_the_statistics_of_the_training_images():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (60, 8, 8, 1), dtype=np.uint8)
    batches = TrainingBatches(
        *(images, np.arange(60) % 10, 10), batch_size=20, seed=0, augmentations={}
    )
    image = keras.Input((8, 8, 1))
    norm = keras.layers.BatchNormalization()
    model = keras.Model(image, norm(image))
    measure_batch_norm(model, batches)
    assert norm.momentum == 0.99
    mean = float(keras.ops.convert_to_numpy(norm.moving_mean)[0])
    assert mean == pytest.approx((images / 255).mean(), rel=1e-5)
    variance = float(keras.ops.convert_to_numpy(norm.moving_variance)[0])
    assert variance == pytest.approx((images / 255).var(), rel=0.01)


@pytest.mark.slow
@pytest.mark.usefixtures("on_made_data")
def test_an_averaged_run_is_made_again_from_its_files_and_keeps_none_of_them(tmp_path):
    """As after a crash between the last epoch and the end."""
    from models.data.datasets import load, split

    settings = {"epochs": 3, "average": 2, "floor": 0.2, "network.kernels": [4, 6]}
    recipe = recipe_for("mnist", "lenet", "backprop", {**settings, "batch_size": 50})
    run = start_run(tmp_path, "mnist", "lenet", "backprop", recipe, "")
    arrays = load("mnist")
    training, validation = split(arrays.x_train, arrays.y_train, recipe.validation)
    fit(run, training, validation)
    first = (run.folder / "best.weights.h5").read_bytes()
    assert len(list(run.folder.glob("tail-*"))) == 2
    (run.folder / "best.weights.h5").write_bytes(b"lost")
    fit(run, training, validation)
    assert (run.folder / "best.weights.h5").stat().st_size == len(first)
    assert main(["train", "--resume", str(run.folder)]) == 0
    card = read_card(run.folder)
    assert (card.training.best_epoch, len(read_history(run.folder))) == (3, 3)
    assert card.training.recipe["average"] == 2
    assert not list(run.folder.glob("*tail*"))
