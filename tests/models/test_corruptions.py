"""Corrupted images: fifteen kinds, always the same, and what a model's card says of them."""

import numpy as np
import pytest

from models.__main__ import main
from models.cards import read_card
from models.data.corruptions import NAMES, CorruptionError, corrupt
from models.packaging.scoring import auroc
from models.publishing.corrupted import measure_corrupted


def made_images(channels=1, side=28):
    """Smooth pictures with edges: neither noise nor blank."""
    y, x = np.mgrid[:side, :side] / side
    waves = [0.5 + 0.4 * np.sin(6 * (x * k + y)) * (x > 0.3) for k in range(1, 9)]
    return np.stack(waves).astype(np.float32)[..., None].repeat(channels, axis=-1)


def test_there_are_fifteen():
    assert len(NAMES) == len(set(NAMES)) == 15


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_corruption_spoils_each_picture_the_same_way_every_time(name, channels):
    images = made_images(channels)
    corrupted = corrupt(images, name)
    assert corrupted.shape == images.shape
    assert corrupted.dtype == np.float32
    assert corrupted.min() >= 0
    assert corrupted.max() <= 1
    assert (corrupted != images).any(axis=(1, 2, 3)).all()
    assert (corrupt(images, name) == corrupted).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_highest_severity_spoils_more_than_the_lowest(name):
    images = made_images()
    least, most = (np.abs(corrupt(images, name, severity) - images).mean() for severity in (1, 5))
    assert most > least


def test_a_corruption_or_severity_that_there_is_not_is_refused():
    with pytest.raises(CorruptionError, match="no corruption is called 'rain'; there are: gauss"):
        corrupt(made_images(), "rain")
    with pytest.raises(CorruptionError, match="severity: expected a whole number from 1 to 5"):
        corrupt(made_images(), "fog", 6)


def test_the_area_under_the_curve_is_the_chance_that_a_positive_has_the_higher_score():
    random = np.random.default_rng(0)
    scores, positive = random.integers(0, 9, 60), random.random(60) < 0.4
    above = scores[positive][:, None] - scores[~positive][None, :]
    assert auroc(scores, positive) == pytest.approx(((above > 0) + 0.5 * (above == 0)).mean())
    assert auroc(np.array([3.0, 1, 2]), np.array([True, False, False])) == 1
    with pytest.raises(ValueError, match="found 3 and 0"):
        auroc(np.arange(3), np.ones(3, bool))


@pytest.mark.usefixtures("on_made_data")
def test_publishing_puts_them_into_the_card_and_evaluate_measures_them_again(
    tmp_path, runs, capsys
):
    repository = tmp_path / "weights"
    assert main(["publish", str(runs["backprop"]), "--repository", str(repository)]) == 0
    folder = repository / "mnist" / "lenet" / "backprop" / "1"
    card = read_card(folder)
    assert (card.corrupted.severity, card.corrupted.images) == (3, 100)
    assert set(card.corrupted.by_corruption) == set(NAMES)
    mean = np.mean(list(card.corrupted.by_corruption.values()))
    assert card.corrupted.accuracy == pytest.approx(mean, abs=1e-6)
    assert card.corrupted.wrong_auroc is None or 0 <= card.corrupted.wrong_auroc <= 1
    assert main(["evaluate", "mnist", "lenet", "--corrupted", "--repository", str(repository)]) == 0
    assert read_card(folder) == card
    said = capsys.readouterr().out
    assert "dotted lines" in said
    assert f"{card.corrupted.accuracy:.2%}" in said


@pytest.mark.usefixtures("on_made_data")
def test_a_run_is_measured_on_its_validation_split_and_its_card_stays_as_it_is(runs, capsys):
    before = read_card(runs["backprop"])
    assert measure_corrupted(runs["backprop"], before).images == before.validation.images
    assert main(["evaluate", str(runs["backprop"]), "--corrupted"]) == 0
    assert "mean" in capsys.readouterr().out
    assert read_card(runs["backprop"]) == before
