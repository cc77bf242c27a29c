"""Augmentation and batches: images change, labels and sizes do not, and all of it repeats."""

import numpy as np
import pytest

from models.augmentation import AUGMENTATIONS, augment, cutout, flip, rotate, shift, warp
from models.batches import TrainingBatches

STRENGTHS = {"warp": 1.0, "rotate": 10, "shift": 3, "flip": 0.5, "cutout": 8}


def made_images(n=16, channels=3):
    return np.random.default_rng(2).random((n, 32, 32, channels), np.float32)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_keeps_shape_type_and_range_and_repeats_with_its_seed(name):
    images = made_images()
    first = AUGMENTATIONS[name](images, STRENGTHS[name], np.random.default_rng(7))
    again = AUGMENTATIONS[name](images, STRENGTHS[name], np.random.default_rng(7))
    other = AUGMENTATIONS[name](images, STRENGTHS[name], np.random.default_rng(8))
    assert first.shape == images.shape
    assert first.dtype == np.float32
    assert first.min() >= 0
    assert first.max() <= 1 + 1e-6
    assert (first == again).all()
    assert (first != other).any()
    assert (first != images).any()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_strength_0_changes_nothing(name):
    images = made_images()
    same = AUGMENTATIONS[name](images, 0, np.random.default_rng(0))
    np.testing.assert_allclose(same, images, atol=1e-6)


def test_a_shift_moves_whole_pixels():
    images = np.zeros((200, 9, 9, 1), np.float32)
    images[:, 4, 4] = 1
    moved = shift(images, 2, np.random.default_rng(0))
    at = np.argwhere(moved[..., 0] == 1)[:, 1:] - 4
    assert len(at) == 200
    assert {tuple(offset) for offset in at} == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}


def test_a_flip_mirrors_left_and_right():
    images = made_images(1)
    assert (flip(images, 1.0, np.random.default_rng(0)) == images[:, :, ::-1]).all()


def test_a_cutout_blanks_a_square():
    for side in (5, 6):
        blanked = cutout(np.ones((50, 32, 32, 1), np.float32), side, np.random.default_rng(0)) == 0
        assert blanked.sum(axis=(1, 2, 3)).max() == side * side
        assert blanked.any(axis=(1, 2, 3)).all()


def test_a_warp_turns_about_the_centre():
    images = np.zeros((20, 15, 15, 1), np.float32)
    images[:, 7, 7] = 1
    assert (warp(images, 1.0, np.random.default_rng(0))[:, 7, 7, 0] > 0.99).all()


def test_a_rotation_keeps_its_angle_and_the_distance_from_the_centre():
    images = np.zeros((50, 31, 31, 1), np.float32)
    images[:, 15, 25:28] = 1  # a bar to the right of the centre
    turned = rotate(images, 10, np.random.default_rng(0))[..., 0]
    y, x = np.mgrid[:31, :31] - 15
    mass = turned.sum(axis=(1, 2))
    centre_y, centre_x = ((turned * axis).sum(axis=(1, 2)) / mass for axis in (y, x))
    angles = np.rad2deg(np.arctan2(centre_y, centre_x))
    assert abs(angles).max() <= 10.1
    assert np.ptp(angles) > 15
    np.testing.assert_allclose(np.hypot(centre_y, centre_x), 11, atol=0.1)


def test_augmentations_follow_the_recipes_order():
    images, random = made_images(), np.random.default_rng
    expected = cutout(flip(images, 0.5, generator := random(3)), 4, generator)
    assert (augment(images, {"flip": 0.5, "cutout": 4}, random(3)) == expected).all()


def batches(**changes):
    images = np.arange(70, dtype=np.uint8).repeat(16).reshape(-1, 4, 4, 1)
    settings = {"batch_size": 32, "seed": 1, "augmentations": {"flip": 0.5}} | changes
    return TrainingBatches(images, np.arange(70) % 10, 10, **settings)


def numbers(batch):
    return (batch[0][:, 0, 0, 0] * 255).round().astype(int).tolist()


def test_an_epoch_has_each_image_once_with_its_label():
    drawn = batches(augmentations={})
    assert len(drawn) == 3
    seen = [drawn[i] for i in range(3)]
    images = [number for batch in seen for number in numbers(batch)]
    labels = [int(label) for batch in seen for label in batch[1].argmax(axis=1)]
    assert sorted(images) == list(range(70))
    assert labels == [number % 10 for number in images]


def test_a_batch_depends_on_seed_epoch_and_place_alone():
    one, other = batches(), batches()
    one.start_epoch(4)
    for epoch in range(5):
        other.start_epoch(epoch)
    assert (one[2][0] == other[2][0]).all()
    other.start_epoch(5)
    assert numbers(one[0]) != numbers(other[0])
    assert numbers(batches(seed=2)[0]) != numbers(batches()[0])


def test_loss_weights_go_with_their_images():
    drawn = batches(loss_weights=lambda images: images[:, 0, 0, 0] * 255)
    images, _, weights = drawn[0]
    np.testing.assert_allclose(weights, images[:, 0, 0, 0] * 255)
