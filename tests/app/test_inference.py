"""Logits become calibrated probabilities and an energy, at any size of the logits."""

from dataclasses import replace

import numpy as np
import pytest

from app.predict.inference import infer, interpret, most_probable
from models.cards import Calibration


def calibration(
    temperature: float = 1.0, threshold: float = 0.0, energy_temperature: float = 1.0
) -> Calibration:
    return Calibration(temperature, 0.0, 0.0, threshold, energy_temperature)


def test_probabilities_and_energy_by_hand() -> None:
    logits = np.log(np.array([[1, 2, 5]], np.float32))
    outcome = interpret(logits, calibration())
    assert outcome.probabilities[0] == pytest.approx([1 / 8, 2 / 8, 5 / 8])
    assert outcome.energy[0] == pytest.approx(np.log(8))


def test_temperature_flattens_probabilities_but_not_energy() -> None:
    logits = np.array([[4.0, 0.0]], np.float32)
    cold, warm = interpret(logits, calibration(1)), interpret(logits, calibration(2))
    assert cold.probabilities[0, 0] == pytest.approx(1 / (1 + np.exp(-4)))
    assert warm.probabilities[0, 0] == pytest.approx(1 / (1 + np.exp(-2)))
    assert cold.energy == pytest.approx(warm.energy)


@pytest.mark.parametrize("size", [1e4, -1e4, 3e38])
def test_huge_logits_do_not_overflow(size: float) -> None:
    outcome = interpret(np.array([[size, 0, size]], np.float32), calibration())
    assert np.isfinite(outcome.probabilities).all()
    assert outcome.probabilities.sum() == pytest.approx(1)


def test_a_cards_energy_temperature_is_that_of_the_score() -> None:
    outputs = np.array([[0.9, 0.1, 0.0]], np.float32)
    energy = interpret(outputs, calibration(0.3, energy_temperature=0.1)).energy
    assert energy == pytest.approx(0.1 * np.log(np.exp([9, 1, 0]).sum()))


def test_an_energy_below_the_threshold_is_out_of_distribution() -> None:
    logits = np.array([[10.0, 0.0], [1.0, 0.0]], np.float32)
    assert interpret(logits, calibration(threshold=5)).in_distribution.tolist() == [True, False]


@pytest.mark.parametrize("images", [2, 40])
def test_a_picture_that_shows_less_than_any_of_the_training_data_is_unlike_it(images: int) -> None:
    """However sure the network is."""
    pixels = np.full((images, 4, 4, 1), 0.5, np.float32)
    pixels[1, :2] = 0.9  # a contrast of 0.2
    card = replace(calibration(threshold=5), least_contrast=0.19)
    sure = lambda given: np.tile(np.float32([10, 0]), (len(given), 1))  # noqa: E731
    found = infer(sure, pixels, card).in_distribution
    assert found.tolist() == [place == 1 for place in range(images)]
    assert infer(sure, pixels, replace(card, least_contrast=0.0)).in_distribution.all()


def test_the_most_probable_come_first_and_ties_in_their_order() -> None:
    assert most_probable([0.2, 0.3, 0.3, 0.2], 3) == [1, 2, 0]
