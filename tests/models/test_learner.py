"""What a network learns from votes, and that it does not forget."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers, ops

from models.learning.learner import Lessons, Settings, learn, let_learn, within
from models.learning.lessons import (
    REWARD,
    RewardLoss,
    VoteLoss,
    home_targets,
    vote_targets,
)
from models.learning.vote_arrays import UNKNOWN
from tests.models.made_votes import made_votes
from tests.models.quarters import CLASSES, accuracy, pictures, small_network


def loss_of(outputs, answer, reward, label, kind="logits", sure=0.0):
    votes = made_votes([answer], reward, label)
    targets = vote_targets(votes, len(outputs), kind)
    rule = RewardLoss() if kind == REWARD else VoteLoss(sure)
    return float(ops.convert_to_numpy(rule(targets, np.array([outputs], np.float32))))


def test_a_thumb_up_and_a_label_are_the_likelihood_of_that_class():
    outputs = [1.0, 3.0, 0.0, -1.0]
    shares = np.exp(outputs) / np.exp(outputs).sum()
    assert loss_of(outputs, 1, 1, UNKNOWN) == pytest.approx(-np.log(shares[1]), rel=1e-5)
    assert loss_of(outputs, 1, 0, 2) == pytest.approx(-np.log(shares[2]), rel=1e-5)


def test_a_thumb_down_is_the_likelihood_of_all_other_classes():
    outputs = [1.0, 3.0, 0.0, -1.0]
    shares = np.exp(outputs) / np.exp(outputs).sum()
    assert loss_of(outputs, 1, 0, UNKNOWN) == pytest.approx(-np.log(1 - shares[1]), rel=1e-5)
    assert np.isfinite(loss_of([0.0, 300.0, 0.0, 0.0], 1, 0, UNKNOWN))  # very sure, and wrong


def test_beside_home_images_a_thumb_down_lets_the_network_decide_between_the_other_classes():
    outputs = [1.0, 3.0, 0.0, -1.0]
    others = np.exp(np.delete(outputs, 1))
    others /= others.sum()
    without = loss_of(outputs, 1, 0, UNKNOWN)
    entropy = -(others * np.log(others)).sum()
    assert loss_of(outputs, 1, 0, UNKNOWN, sure=0.3) == pytest.approx(without + 0.3 * entropy)
    for told in (1, 0, UNKNOWN), (1, 1, UNKNOWN), (1, 0, 2):  # no entropy of a class that is known
        certain = [0.0, 0.0, 300.0, 0.0] if told[1:] == (0, UNKNOWN) else outputs
        assert loss_of(certain, *told, sure=0.3) == pytest.approx(loss_of(certain, *told))


def test_reward_estimates_learn_the_reward_of_the_answer_and_with_a_label_of_all():
    q = [0.2, 0.9, 0.1, 0.0]
    assert loss_of(q, 1, 0, UNKNOWN, REWARD) == pytest.approx(0.9**2 / 2)
    assert loss_of(q, 1, 1, UNKNOWN, REWARD) == pytest.approx(0.1**2 / 2)
    whole = (0.2**2 + 0.9**2 + 0.9**2 + 0.0) / 2
    assert loss_of(q, 1, 0, 2, REWARD) == pytest.approx(whole)


@pytest.mark.parametrize("kind", ["logits", REWARD])
def test_at_home_the_published_outputs_are_the_best(kind):
    outputs = np.array([[1.0, 0.5, 0.0, -1.0]], np.float32)
    rule = RewardLoss() if kind == REWARD else VoteLoss()
    targets = home_targets(outputs, kind)
    best = float(rule(targets, outputs))
    for change in np.eye(4, dtype=np.float32) * 0.1:
        assert float(rule(targets, outputs + change)) > best


@pytest.fixture(scope="module")
def published():
    return small_network()


def lessons_on(network, images, classes):
    answers = network.predict_on_batch(images / np.float32(255)).argmax(axis=1)
    votes = made_votes(answers, answers == classes, images=images)
    targets = vote_targets(votes, CLASSES, "logits")
    return Lessons(images, targets, np.ones(len(images), np.float32))


SETTINGS = Settings(steps=150, rate=3e-3, batch=32, home_batch=64, farthest=3.0)


def adapted(network, images_at_home, **settings):
    """A network that has learned from thumbs on its answers to pale pictures."""
    images, classes = pictures(400, seed=3, pale=True)
    lessons = lessons_on(network, images, classes)
    weights = learn(
        network, lessons, images_at_home, dataclasses.replace(SETTINGS, **settings), "logits"
    )
    copy = keras.models.clone_model(network)
    copy.set_weights(weights)
    return copy


@pytest.mark.slow
def test_thumbs_alone_teach_other_pictures(published):
    new = pictures(300, seed=4, pale=True)
    learned = adapted(published, None)
    assert accuracy(learned, *new) > accuracy(published, *new) + 0.05


@pytest.mark.slow
def test_home_images_keep_what_was_known(published):
    known = pictures(300, seed=5)
    home, _ = pictures(300, seed=6)
    with_home = accuracy(adapted(published, home), *known)
    assert with_home >= accuracy(published, *known) - 0.01
    assert with_home >= accuracy(adapted(published, None), *known)


def shrunk(before, after):
    """How much of the kernels' sizes was lost, weight by weight."""
    pairs = zip(before, after, strict=True)
    return sum(float(np.maximum(np.abs(a) - np.abs(b), 0).sum()) for a, b in pairs if a.ndim > 1)


@pytest.mark.slow
def test_with_consolidation_large_weights_shrink_less(published):
    before = published.get_weights()
    after = adapted(published, None, steps=40, rule="consolidating", strength=100.0)
    plain = adapted(published, None, steps=40)
    assert shrunk(before, after.get_weights()) < shrunk(before, plain.get_weights())


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["synaptic intelligence", "l2"])
def test_a_penalty_without_home_images_moves_the_weights_less(published, rule):
    home, _ = pictures(300, seed=6)
    before = published.get_weights()

    def moved(**settings):
        after = adapted(published, home, home=0.0, steps=40, **settings).get_weights()
        return sum(float(np.square(a - b).sum()) for a, b in zip(after, before, strict=True))

    assert moved(rule=rule, strength=100.0) < moved()


@pytest.mark.slow
def test_the_same_votes_and_seed_give_the_same_weights(published):
    home, _ = pictures(100, seed=6)
    one, other, third = (adapted(published, home, steps=10, seed=s) for s in (0, 0, 1))
    pairs = zip(one.get_weights(), other.get_weights(), third.get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b, _ in pairs)
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(one.get_weights(), third.get_weights(), strict=True)
    )


def test_learning_leaves_the_published_network_and_its_batch_statistics_alone(published):
    before = published.get_weights()
    after = adapted(published, None, steps=10)
    assert all(np.array_equal(a, b) for a, b in zip(before, published.get_weights(), strict=True))
    for old, new in zip(published.layers, after.layers, strict=True):
        if isinstance(old, layers.BatchNormalization):
            assert np.array_equal(old.moving_mean, new.moving_mean)
            assert np.array_equal(old.moving_variance, new.moving_variance)


@pytest.mark.parametrize(
    ("part", "expected"),
    [("first", {"conv"}), ("last", {"logits"})],
)
def test_only_the_chosen_layers_learn(published, part, expected):
    network = keras.models.clone_model(published)
    let_learn(network, part)
    learning = {layer.name for layer in network.layers if layer.trainable_weights}
    assert expected <= learning
    assert "dense" not in {name[:5] for name in learning}


@pytest.mark.slow
def test_no_votes_move_the_weights_farther_than_allowed(published):
    before = published.get_weights()
    after = adapted(published, None, farthest=0.05, steps=40).get_weights()

    def length(arrays):
        return np.sqrt(sum(float(np.square(a).sum()) for a in arrays if a.ndim > 1))

    moved = length([a - b for a, b in zip(after, before, strict=True)])
    assert moved <= 0.05 * length(before) * 1.0001
    assert within(before, after, 1.0)[0] is after[0]  # inside the ball nothing changes
