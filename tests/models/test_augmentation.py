"""Augmentation and batches: images change, labels and sizes do not, and all of it repeats."""

import numpy as np
import pytest

from models.data.augmentation import (
    AUGMENTATIONS,
    MIXTURES,
    augment,
    brightness,
    contrast,
    cutmix,
    cutout,
    flip,
    garment,
    jpeg,
    mixup,
    photographed,
    rotate,
    shade,
    shift,
    thickness,
    warp,
    written,
)
from models.data.augmentation.trivial import CHANGES
from models.data.batches import TrainingBatches

STRENGTHS = {
    **{"warp": 1.0, "rotate": 10, "shift": 3, "flip": 0.5, "cutout": 8},
    **{"brightness": 0.3, "contrast": 0.5, "shade": 0.5, "haze": 0.5, "noise": 0.2, "blur": 1.0},
    **{"resample": 0.5, "jpeg": 60, "thickness": 0.8, "ruled": 0.9},
    **{"trivial": 1.0, "written": 0.5, "photographed": 0.5, "garment": 0.5},
}
GREY_ALONE = ("garment",)


def made_images(n=16, channels=3):
    return np.random.default_rng(2).random((n, 32, 32, channels), np.float32)


def images_for(name):
    return made_images(channels=1 if name in GREY_ALONE else 3)


def made_labels(n=16, classes=10):
    return np.eye(classes, dtype=np.float32)[np.arange(n) % classes]


def made_garments(n=64):
    """Light trapezia of grey on black, from edge to edge as that data set has them."""
    images = np.zeros((n, 28, 28, 1), np.float32)
    for place, image in enumerate(images):
        for row in range(28):
            half = 5 + (place % 5) + row * 4 // 28
            image[row, 14 - half : 14 + half] = 0.4 + 0.5 * (place % 3) / 2
    return images


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_keeps_shape_type_and_range_and_repeats_with_its_seed(name):
    images = images_for(name)
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
    images = images_for(name)
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
    images, labels, random = made_images(), made_labels(), np.random.default_rng
    expected = cutout(flip(images, 0.5, generator := random(3)), 4, generator)
    changed, same = augment(images, labels, {"flip": 0.5, "cutout": 4}, random(3))
    assert (changed == expected).all()
    assert (same == labels).all()


@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_keeps_shares_that_add_up_to_1_and_repeats_with_its_seed(name):
    images, labels = made_images(), made_labels()
    wanted = {name: 1.0}
    mixed, shares = augment(images, labels, wanted, np.random.default_rng(7))
    again, same = augment(images, labels, wanted, np.random.default_rng(7))
    assert (mixed == again).all()
    assert (shares == same).all()
    assert mixed.dtype == shares.dtype == np.float32
    assert (mixed != images).any()
    assert shares.min() >= 0
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    assert ((shares > 0).sum(axis=1) <= 2).all()
    unchanged, own = augment(images, labels, {name: 0}, np.random.default_rng(7))
    assert (unchanged == images).all()
    assert (own == labels).all()


def pixels_of_their_class(n=16):
    """Images all of whose pixels are 1 in the channel of their class, 0 in the others."""
    labels = made_labels(n, classes=3)
    return np.broadcast_to(labels[:, None, None, :], (n, 32, 32, 3)).copy(), labels


@pytest.mark.parametrize("mixture", [mixup, cutmix])
def test_labels_are_mixed_in_the_shares_of_the_pixels(mixture):
    images, labels = pixels_of_their_class()
    mixed, shares = mixture(images, labels, 1.0, np.random.default_rng(3))
    np.testing.assert_allclose(mixed.mean(axis=(1, 2)), shares, atol=1e-4)
    assert ((shares > 0.05) & (shares < 0.95)).any()


def test_a_cutmix_replaces_one_rectangle():
    images, labels = pixels_of_their_class()
    mixed, _ = cutmix(images, labels, 1.0, np.random.default_rng(3))
    for own, other in zip(images, mixed, strict=True):
        replaced = (own != other).any(axis=-1)
        rows, columns = replaced.any(axis=1), replaced.any(axis=0)
        assert (replaced == rows[:, None] & columns[None]).all()
        assert np.diff(np.flatnonzero(rows)).max(initial=1) == 1


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_a_change_of_trivialaugment_does_nothing_at_amount_0_unless_it_has_no_amount(change):
    images = made_images()
    changed = change(images, np.zeros(len(images)))
    assert changed.shape == images.shape
    if change.__name__ not in ("_stretched", "_equalized"):
        np.testing.assert_allclose(changed, images, atol=0.01)


def test_trivialaugment_changes_each_image_in_one_of_its_ways():
    images = np.repeat(made_images(1), 500, axis=0)
    changed = AUGMENTATIONS["trivial"](images, 1.0, np.random.default_rng(0))
    same = (changed == images).all(axis=(1, 2, 3)).mean()
    assert 1 / len(CHANGES) / 2 < same < 4 / len(CHANGES)


def test_strokes_become_wider_and_thinner():
    images = np.zeros((100, 28, 28, 1), np.float32)
    images[:, 5:23, 13:15] = 1
    ink = thickness(images, 1.0, np.random.default_rng(0)).sum(axis=(1, 2, 3))
    assert ink.min() < 0.5 * images[0].sum()
    assert ink.max() > 1.8 * images[0].sum()


def test_light_changes_by_as_much_as_its_strength_allows():
    grey = np.full((200, 16, 16, 1), 0.5, np.float32)
    lit = brightness(grey, 0.2, np.random.default_rng(0))
    assert (lit.min(), lit.max()) == pytest.approx((0.3, 0.7), abs=0.01)
    dark = shade(grey, 0.6, np.random.default_rng(0))
    assert (dark.min(), dark.max()) == pytest.approx((0.2, 0.5), abs=0.04)
    images = 0.4 + 0.2 * made_images(200, 1)
    spread = contrast(images, 0.5, np.random.default_rng(0)).std(axis=(1, 2, 3)) / images.std()
    assert (spread.min(), spread.max()) == pytest.approx((0.61, 1.65), abs=0.06)


def test_jpeg_costs_more_of_the_image_the_more_is_asked_for():
    images = made_images(channels=1)
    losses = [
        np.abs(jpeg(images, most, np.random.default_rng(0)) - images).mean()
        for most in (10, 50, 90)
    ]
    assert losses == sorted(losses)
    assert losses[2] > 2 * losses[0]


@pytest.mark.parametrize("sent", [written, photographed])
def test_of_pictures_as_people_send_them_the_share_is_changed_and_no_more(sent):
    images = made_images(400, 1)
    changed = (sent(images, 0.25, np.random.default_rng(0)) != images).any(axis=(1, 2, 3)).mean()
    assert changed == pytest.approx(0.25, abs=0.06)


def test_a_garment_stays_on_black_from_edge_to_edge_and_changes_its_light():
    garments = made_garments()
    changed = garment(garments, 1.0, np.random.default_rng(0))
    assert (changed[:, :, 0] < 0.05).mean() > 0.9
    longest = np.maximum(
        (changed > 0.02).any(axis=(2, 3)).sum(axis=1), (changed > 0.02).any(axis=(1, 3)).sum(axis=1)
    )
    assert np.median(longest) >= 27
    assert (changed != garments).any(axis=(1, 2, 3)).all()


def test_an_image_that_shows_no_garment_stays_as_it_is():
    nothing = np.zeros((4, 28, 28, 1), np.float32)
    assert (garment(nothing, 1.0, np.random.default_rng(0)) == 0).all()


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


def test_the_order_in_which_batches_are_asked_for_changes_nothing():
    forwards, backwards = batches(), batches()
    one = [forwards[place] for place in (0, 1, 2)]
    other = [backwards[place] for place in (2, 1, 0)][::-1]
    assert all((a[0] == b[0]).all() for a, b in zip(one, other, strict=True))
    assert (forwards[1][0] == one[1][0]).all()  # asked for again


def test_a_teacher_answers_the_augmented_images_and_its_answers_go_with_their_labels():
    drawn = batches(teach=lambda images: np.repeat(images[:, :1, 0, 0], 10, axis=1))
    images, pairs = drawn[0]
    assert pairs.shape == (32, 2, 10)
    assert (pairs[:, 0].sum(axis=1) == 1).all()
    np.testing.assert_array_equal(pairs[:, 1, 0], images[:, 0, 0, 0])


def test_loss_weights_go_with_their_images():
    drawn = batches(loss_weights=lambda images: images[:, 0, 0, 0] * 255)
    images, _, weights = drawn[0]
    np.testing.assert_allclose(weights, images[:, 0, 0, 0] * 255)
