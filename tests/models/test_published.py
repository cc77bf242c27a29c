"""The repository as it is committed: its files are whole, and its claims hold."""

from pathlib import Path

import numpy as np
import pytest

from models.cards import checksums, find_models
from models.data.datasets import load
from models.packaging.export import agreement, keras_logits
from models.packaging.running import onnx_logits
from models.packaging.scoring import score

REPOSITORY = Path(__file__).parents[2] / "weights"
FEW = 1000  # images
MODELS = [pytest.param(folder, card, id=card.name) for folder, card in find_models(REPOSITORY)]
# What each published model must reach on its test set, where it learned by a rule of its own.
FLOORS = {
    "mnist": {
        **{"lenet": 0.994, "alexnet": 0.996, "googlenet": 0.9955, "vgg": 0.9965},
        **{"dense": 0.9868, "conv": 0.9931, "loccon": 0.98},
    },
    "fashion-mnist": {"lenet": 0.92, "alexnet": 0.935, "googlenet": 0.945, "vgg": 0.945},
    "cifar10": {"lenet": 0.80, "alexnet": 0.90, "googlenet": 0.935, "vgg": 0.93, "deep": 0.8888},
    "cifar100": {"deep": 0.5958},
}


@pytest.mark.parametrize(("folder", "card"), MODELS)
def test_a_model_lies_where_its_card_says_with_the_files_that_it_describes(folder, card):
    place = (card.dataset, card.architecture, card.rule, str(card.version))
    assert folder.relative_to(REPOSITORY).parts == place
    assert checksums(folder) == card.files
    assert {"history.csv", "curves.png", "confusion.png"} <= {
        path.name for path in folder.iterdir()
    }


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "card"), MODELS)
def test_both_files_of_a_model_agree(folder, card):
    shape = (card.input.height, card.input.width, card.input.channels)
    images = np.random.default_rng(0).integers(0, 256, (32, *shape), dtype=np.uint8)
    agreement(keras_logits(folder, images), onnx_logits(folder, images)).check()


@pytest.mark.parametrize(("folder", "card"), MODELS)
def test_a_model_was_tested_and_stands_beside_its_baseline(folder, card):
    assert card.test is not None
    if card.rule != "backprop":
        assert card.test.accuracy >= FLOORS.get(card.dataset, {}).get(card.architecture, 0)
    if card.rule != "backprop":
        assert card.control is not None
        assert card.control.seed == card.training.seed


def test_the_repository_stays_small_enough_to_clone():
    assert _bytes("*") < 160e6
    assert (
        sum(_bytes(f"*/{network}/**/*") for network in ("dense", "conv", "loccon", "deep")) < 105e6
    )


def _bytes(pattern):
    return sum(path.stat().st_size for path in REPOSITORY.rglob(pattern) if path.is_file())


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(("folder", "card"), MODELS)
def test_a_model_reaches_what_its_card_claims_on_the_real_test_set(folder, card):
    """The served file, on every image. Keras' own takes longer, and is compared on the first."""
    arrays = load(card.dataset)
    served = onnx_logits(folder, arrays.x_test)
    assert score(served, arrays.y_test) == card.test
    trained = keras_logits(folder, arrays.x_test[:FEW])
    compared = agreement(trained, served[:FEW], card.calibration.temperature)
    compared.check()
    assert not compared.different_answers
