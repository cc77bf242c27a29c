"""After reward learning: what is far from the training images is told from what is like them."""

from pathlib import Path

import numpy as np
import pytest

from app.predict.inference import infer, interpret
from models.__main__ import main
from models.cards import find_models, read_card
from models.data.datasets import load, scaled, split
from models.packaging.running import onnx_answers, onnx_logits

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(made_data, tmp_path_factory):
    """The folder of a small network that learned the made digits from reward, and its data."""
    root = tmp_path_factory.mktemp("rewarded")
    command = ["train", "mnist", "conv", "--rule", "brainprop", "--preset", "fast"]
    settings = ["--epochs", "10", "--batch-size", "8", "--validation", "0.2", "--runs", str(root)]
    for setting in (
        "network={maps = 8, hidden = 32, dropout = 0, he = true}",
        "learning_rate=0.02",
        "brainprop.epsilon=0.3",
        "brainprop.tries=1",
    ):
        settings += ["--set", setting]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAPLASTIC_DATA", str(made_data))
        assert main([*command, *settings]) == 0
        return next(root.iterdir()), load("mnist")


def in_distribution(folder, images):
    """The share of these images that the service would say are like the training data."""
    calibration = read_card(folder).calibration
    outcome = infer(lambda pixels: onnx_answers(folder, pixels), scaled(images), calibration)
    return outcome.in_distribution.mean()


def test_it_learned_them(model):
    assert read_card(model[0]).validation.accuracy > 0.95


def test_the_card_says_that_its_outputs_are_rewards_and_how_they_become_probabilities(model):
    folder, arrays = model
    calibration = read_card(folder).calibration
    assert calibration.outputs == "reward estimates"
    assert calibration.energy_temperature == calibration.temperature < 0.5
    _, (images, labels) = split(arrays.x_train, arrays.y_train, 0.2)
    probabilities = interpret(onnx_logits(folder, images), calibration).probabilities
    right = probabilities[np.arange(len(labels)), labels]
    # A softmax of the estimates themselves hardly goes above e / (e + 9) = 0.23.
    assert np.median(right) > 0.9


def test_of_the_validation_images_95_percent_are_like_the_data_and_of_others_about_as_many(model):
    folder, arrays = model
    _, (images, _) = split(arrays.x_train, arrays.y_train, 0.2)
    assert in_distribution(folder, images) == pytest.approx(0.95, abs=0.02)
    assert in_distribution(folder, arrays.x_test) > 0.85


@pytest.mark.parametrize("far_out", ["noise", "white", "black", "negatives", "shuffled"])
def test_what_is_far_from_the_data_is_flagged(model, far_out):
    folder, arrays = model
    random = np.random.default_rng(0)
    digits = arrays.x_test
    images = {
        "noise": random.integers(0, 256, digits.shape, dtype=np.uint8),
        "white": np.full((1, 28, 28, 1), 255, np.uint8),
        "black": np.zeros((1, 28, 28, 1), np.uint8),
        "negatives": 255 - digits,
        "shuffled": random.permuted(digits.reshape(len(digits), -1), axis=1).reshape(digits.shape),
    }[far_out]
    assert in_distribution(folder, images) < 0.1


PUBLISHED = [
    pytest.param(folder, card, id=card.name)
    for folder, card in find_models(Path(__file__).parents[2] / "weights")
]


@pytest.mark.parametrize(("folder", "card"), PUBLISHED)
def test_no_published_model_calls_a_blank_picture_familiar(folder, card):
    """A network's answer to one is nothing that training has shaped; some are very sure."""
    shape = (card.input.height, card.input.width, card.input.channels)
    blank = np.stack([np.full(shape, level, np.uint8) for level in range(0, 256, 15)])
    nearly = blank.copy()
    nearly[:, 0, 0] ^= 8
    assert in_distribution(folder, blank) == 0
    assert in_distribution(folder, nearly) == 0
