"""The figures on a card, against values known from elsewhere."""

import numpy as np
import pytest

from app.predict.inference import interpret
from models.calibration import contrasts, energy_scores, probabilities_and_energy, softmax
from models.data.datasets import scaled
from models.packaging.scoring import (
    calibrate,
    expected_calibration_error,
    score,
    wilson_interval,
)


def blank(n):
    return np.zeros((n, 4, 4, 1), np.uint8)


def test_scores_count_each_true_class():
    logits = np.array([[2.0, 1, 0], [0, 2, 1], [2, 0, 1], [0, 0, 5]])
    scores = score(logits, np.array([0, 1, 1, 2]))
    assert scores.accuracy == 0.75
    assert scores.per_class == (1, 0.5, 1)
    assert scores.confusion == ((1, 0, 0), (1, 1, 0), (0, 0, 1))


@pytest.mark.parametrize(
    ("correct", "total", "interval"),
    # Newcombe, Statistics in Medicine 17:857 (1998), table I, method 3.
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611))],
)
def test_wilsons_interval_is_the_published_one(correct, total, interval):
    assert wilson_interval(correct, total) == pytest.approx(interval, abs=5e-5)


def test_softmax_and_energy_do_not_overflow():
    logits = np.array([[1e4, 0.0], [-1e4, -1e4]])
    np.testing.assert_allclose(softmax(logits), [[1, 0], [0.5, 0.5]])
    np.testing.assert_allclose(energy_scores(logits, 1.0), [1e4, -1e4 + np.log(2)])


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    random = np.random.default_rng(4)
    logits = random.normal(size=(40_000, 5)) * 2
    cumulated = softmax(logits / temperature).cumsum(axis=1)
    labels = (random.random((len(logits), 1)) > cumulated).sum(axis=1)
    found = calibrate(logits, (blank(len(labels)), labels))
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    assert found.ece_after <= found.ece_before + 1e-3
    assert found.ece_after < 0.02


def test_a_confident_guesser_has_the_calibration_error_of_its_mistakes():
    probabilities = np.array([[1.0, 0.0]] * 10)
    labels = np.array([0] * 7 + [1] * 3)
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.3)


def test_the_least_contrast_is_that_of_the_flattest_validation_image():
    images = np.zeros((3, 4, 4, 2), np.uint8)
    images[0, :2, :, 0], images[1, :2] = 204, 255
    images[2] = 255, 0  # colour alone shows nothing
    found = contrasts(scaled(images))
    np.testing.assert_allclose(found, [0.4 / 2**0.5, 0.5, 0], atol=1e-6)
    fitted = calibrate(np.eye(2, 3, dtype=np.float32), (images[:2], np.arange(2)))
    assert fitted.least_contrast == pytest.approx(found[:2].min())


def test_95_percent_of_the_validation_images_are_in_distribution():
    logits = np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float32)
    found = calibrate(logits, (blank(2000), np.arange(2000) % 4))
    energies = energy_scores(logits, found.energy_temperature)
    assert (energies >= found.energy_threshold).mean() == pytest.approx(0.95, abs=1e-3)


def test_the_service_and_the_card_take_the_same_energy_score():
    outputs = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
    found = calibrate(outputs, (blank(50), np.arange(50) % 4))
    np.testing.assert_allclose(
        interpret(outputs, found).energy, energy_scores(outputs, found.temperature), rtol=1e-12
    )


def test_the_energy_score_at_a_temperature_of_1_is_logsumexp():
    logits = np.random.default_rng(1).normal(size=(50, 4))
    expected = np.log(np.exp(logits).sum(axis=1))
    np.testing.assert_allclose(energy_scores(logits, 1.0), expected, rtol=1e-12)


@pytest.mark.parametrize("scale", [0.7, 1.0, 1000.0])
@pytest.mark.parametrize("temperatures", [(1.3, 1.3), (0.2, 1.0)])
def test_one_image_gets_the_figures_that_it_gets_among_others(temperatures, scale):
    temperature, energy_temperature = temperatures
    logits = (scale * np.random.default_rng(2).normal(size=(20, 10))).astype(np.float32)
    probabilities, energy = probabilities_and_energy(logits, temperature, energy_temperature)
    exact = logits.astype(np.float64)
    np.testing.assert_allclose(probabilities, softmax(exact, temperature), rtol=1e-12)
    np.testing.assert_allclose(energy, energy_scores(logits, energy_temperature), rtol=1e-12)
    for place, row in enumerate(logits):
        alone = probabilities_and_energy(row[None], temperature, energy_temperature)
        np.testing.assert_allclose(alone[0][0], probabilities[place], rtol=1e-12, atol=1e-300)
        np.testing.assert_allclose(alone[1][0], energy[place], rtol=1e-12)
