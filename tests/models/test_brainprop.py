"""Reward learning, on whichever backend KERAS_BACKEND names; test_backends.py repeats it."""

import keras
import numpy as np
import pytest

from models.data.batches import TrainingBatches
from models.data.preparation import one_hot
from models.plasticity.brainprop import (
    AnswerAccuracy,
    RewardPredictionError,
    brainprop,
    choice_noise,
)
from models.plasticity.learning import Learning
from models.plasticity.metaplastic import Metaplastic

# PyTorch's compiler is not what trains here: models/training/fast_clone.py says what does.
JIT_COMPILE = [False] if keras.backend.backend() == "torch" else [False, True]

# One image each: greedy and right; greedy and wrong; explored by the noise, and right.
Q = np.array([[0.2, 0.7, -0.1], [0.2, 0.7, -0.1], [-0.5, -0.25, -0.75]], np.float32)
LABELS = np.array([1, 0, 0])
NOISE = np.array([[0, 0, 0], [0, 0, 0], [1, 0, 0]], np.float32)
PICKED = np.array([1, 1, 0])
REWARD = np.array([1, 0, 1], np.float32)
DELTA = REWARD - Q[np.arange(3), PICKED]  # 0.3, -0.7, 1.5


def trials(labels=LABELS, noise=NOISE):
    return np.stack([one_hot(labels, noise.shape[1]), noise], axis=1)


def to_numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def linear_network(weights):
    """q = h W, the output layer alone."""
    inputs, outputs = weights.shape
    network = keras.Sequential(
        [keras.Input((inputs,)), keras.layers.Dense(outputs, use_bias=False)]
    )
    network.set_weights([weights])
    return network


def gradient(h, weights, targets, jit_compile=False, tries=1):
    """Of the loss for the output weights: what plain SGD at rate 1 takes off them in one step."""
    network = linear_network(weights)
    network.compile(
        keras.optimizers.SGD(1.0), RewardPredictionError(tries), jit_compile=jit_compile
    )
    network.train_on_batch(h, targets)
    return weights - network.get_weights()[0]


def made_batch(n=12, classes=4, width=5):
    random = np.random.default_rng(8)
    h = random.random((n, width), np.float32)
    weights = random.normal(size=(width, classes)).astype(np.float32)
    labels = random.integers(0, classes, n)
    return h, weights, labels, random.gumbel(size=(n, classes)).astype(np.float32)


def test_the_loss_is_half_the_squared_reward_prediction_error():
    each = RewardPredictionError(reduction="none")(trials(), Q)
    np.testing.assert_allclose(to_numpy(each), [0.045, 0.245, 1.125], rtol=1e-6)
    mean = RewardPredictionError()(trials(), Q)
    np.testing.assert_allclose(to_numpy(mean), (0.045 + 0.245 + 1.125) / 3, rtol=1e-6)


@pytest.mark.parametrize("jit_compile", JIT_COMPILE)
def test_one_image_moves_its_picked_column_by_delta_times_h_and_no_other(jit_compile):
    h, weights, labels, noise = made_batch(n=1)
    q = h @ weights
    picked = (q + noise).argmax()
    delta = float(picked == labels[0]) - q[0, picked]
    found = gradient(h, weights, trials(labels, noise), jit_compile)
    others = np.arange(weights.shape[1]) != picked
    assert (found[:, others] == 0).all()
    np.testing.assert_allclose(found[:, picked], -delta * h[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("jit_compile", JIT_COMPILE)
def test_which_other_class_would_have_been_right_is_never_heard(jit_compile):
    """All parts of the network learn the same, whatever the true class that was not picked."""
    h, weights, _, noise = made_batch(n=1)
    picked = (h @ weights + noise).argmax()
    learned = [
        gradient(h, weights, trials(np.array([label]), noise), jit_compile)
        for label in range(weights.shape[1])
        if label != picked
    ]
    assert learned[0].any()
    for other in learned[1:]:
        np.testing.assert_array_equal(other, learned[0])


@pytest.mark.parametrize("n", [12, 5])
def test_a_batch_is_the_mean_of_its_own_images(n):
    h, weights, labels, noise = (part[:n] if len(part) == 12 else part for part in made_batch())
    q = h @ weights
    picked = one_hot((q + noise).argmax(axis=1), weights.shape[1])
    delta = (picked * (one_hot(labels, weights.shape[1]) - q)).sum(axis=1)
    expected = -h.T @ (picked * delta[:, None]) / n
    found = gradient(h, weights, trials(labels, noise))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_choice_that_earns_nothing_is_followed_by_the_next_best():
    """Up to the rewarded one, which is the last, or to as many as may be made."""
    q = np.array([[0.4, 0.3, -0.1, 0.2]], np.float32)
    no_noise = np.zeros_like(q)
    for label, tries, expected in (
        (0, 3, 0.6**2),  # right at once
        (1, 3, 0.4**2 + 0.7**2),
        (3, 2, 0.4**2 + 0.3**2),  # the third would have been right
        (3, 3, 0.4**2 + 0.3**2 + 0.8**2),
        (2, 9, 0.4**2 + 0.3**2 + 0.2**2 + 1.1**2),  # no more than there are classes
    ):
        found = RewardPredictionError(tries)(trials(np.array([label]), no_noise), q)
        np.testing.assert_allclose(to_numpy(found), expected / 2, rtol=1e-6)


def test_a_rewarded_choice_counts_reward_weight_times_and_others_once():
    q = np.array([[0.4, 0.3, -0.1, 0.2]], np.float32)
    found = RewardPredictionError(2, 5.0)(trials(np.array([1]), np.zeros_like(q)), q)
    np.testing.assert_allclose(to_numpy(found), (0.4**2 + 5 * 0.7**2) / 2, rtol=1e-6)


@pytest.mark.parametrize("jit_compile", JIT_COMPILE)
def test_each_choice_that_was_made_moves_its_own_column_and_no_other(jit_compile):
    h, weights, labels, noise = made_batch(n=1)
    q = (h @ weights)[0]
    order = np.argsort(-(q + noise[0]))
    labels = order[1:2]  # the second choice is rewarded
    found = gradient(h, weights, trials(labels, noise), jit_compile, tries=3)
    for choice, reward in ((order[0], 0.0), (order[1], 1.0)):
        expected = -(reward - q[choice]) * h[0]
        np.testing.assert_allclose(found[:, choice], expected, rtol=1e-5, atol=1e-6)
    assert (found[:, order[2:]] == 0).all()


def test_below_the_output_the_gradient_is_delta_times_that_of_the_picked_output():
    random = np.random.default_rng(4)
    x = random.random((1, 3), np.float32)
    below = random.normal(size=(3, 5)).astype(np.float32)
    above = random.normal(size=(5, 4)).astype(np.float32)
    hidden = np.maximum(x @ below, 0)
    q = hidden @ above
    picked = q.argmax()
    network = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(5, activation="relu", use_bias=False),
            keras.layers.Dense(4, use_bias=False),
        ]
    )
    network.set_weights([below, above])
    network.compile(keras.optimizers.SGD(1.0), RewardPredictionError())
    network.train_on_batch(x, trials(np.array([2]), np.zeros((1, 4), np.float32)))
    delta = float(picked == 2) - q[0, picked]
    expected = -delta * x.T @ (above[:, picked] * (hidden[0] > 0))[None]
    np.testing.assert_allclose(below - network.get_weights()[0], expected, rtol=1e-4, atol=1e-6)


def test_without_exploration_the_choice_is_the_largest_output():
    random = np.random.default_rng(0)
    assert (choice_noise(np.zeros((500, 10), np.float32), 0.0, random) == 0).all()


def test_an_image_is_explored_with_probability_epsilon():
    noise = choice_noise(np.zeros((50_000, 3), np.float32), 0.02, np.random.default_rng(0))
    explored = (noise != 0).all(axis=1)
    assert ((noise == 0).all(axis=1) == ~explored).all()
    assert explored.mean() == pytest.approx(0.02, abs=0.002)  # sd 0.0006


def test_explored_choices_follow_the_softmax_of_the_outputs():
    q, draws = np.array([0.4, -1.0, 1.2, 0.1, 0.6]), 100_000
    noise = choice_noise(np.zeros((draws, 5), np.float32), 1.0, np.random.default_rng(2))
    counts = np.bincount((q + noise).argmax(axis=1), minlength=5)
    expected = draws * np.exp(q) / np.exp(q).sum()
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 18.47  # 99.9 % of the distribution with 4 degrees of freedom


def test_accuracy_counts_the_largest_output_whatever_was_picked():
    found = AnswerAccuracy()(trials(labels=np.array([1, 0, 1])), Q)
    # The third image, all of whose outputs are negative, explored class 0; its answer is class 1.
    assert float(found) == pytest.approx(2 / 3)


def test_the_same_batch_brings_the_same_choices_whenever_it_is_drawn():
    def batches():
        images = np.zeros((70, 4, 4, 1), np.uint8)
        settings = {"batch_size": 32, "seed": 1, "augmentations": {}}
        rule = brainprop(Learning(keras.optimizers.SGD()), epsilon=0.5)
        return TrainingBatches(images, np.arange(70) % 10, 10, **settings, targets=rule.targets)

    straight, resumed = batches(), batches()
    for epoch in range(4):
        straight.start_epoch(epoch)
    resumed.start_epoch(3)
    for index in range(3):
        np.testing.assert_array_equal(straight[index][1], resumed[index][1])
    assert straight[0][1].shape == (32, 2, 10)
    straight.start_epoch(4)
    assert (straight[0][1][:, 1] != resumed[0][1][:, 1]).any()


def test_validation_does_not_explore():
    rule = brainprop(Learning(keras.optimizers.SGD()), epsilon=1.0)
    rewards, noise = rule.targets(one_hot(LABELS, 3), None).transpose(1, 0, 2)
    np.testing.assert_array_equal(rewards, one_hot(LABELS, 3))
    assert (noise == 0).all()


@pytest.mark.parametrize("jit_compile", JIT_COMPILE)
@pytest.mark.parametrize("metaplastic", [None, {"rule": "consolidating", "strength": 1.0}])
def test_a_network_learns_from_reward_alone(jit_compile, metaplastic):
    keras.utils.set_random_seed(1)
    random = np.random.default_rng(6)
    labels = np.arange(200) % 3
    x = random.normal(size=(200, 6)).astype(np.float32) / 4 + np.eye(6, dtype=np.float32)[labels]
    rule = brainprop(Learning(keras.optimizers.SGD(0.3)), 0.1, metaplastic=metaplastic)
    assert isinstance(rule.optimizer, Metaplastic) == (metaplastic is not None)
    network = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(3, use_bias=False),
        ]
    )
    network.compile(rule.optimizer, rule.loss, metrics=[rule.accuracy], jit_compile=jit_compile)
    for _ in range(60):
        targets = rule.targets(one_hot(labels, 3), random)
        network.train_on_batch(x, targets)
    accuracy = network.evaluate(x, rule.targets(one_hot(labels, 3), None), verbose=0)[1]
    assert accuracy > 0.9
    assert (network.predict(x, verbose=0).argmax(axis=1) == labels).mean() == pytest.approx(
        accuracy
    )


def test_a_saved_network_goes_on_as_if_it_had_not_been_saved(tmp_path):
    h, weights, labels, noise = made_batch()
    straight = linear_network(weights)
    rule = brainprop(Learning(keras.optimizers.SGD(0.1, momentum=0.9)), tries=2, reward_weight=3)
    straight.compile(rule.optimizer, rule.loss, metrics=[rule.accuracy])
    straight.train_on_batch(h, trials(labels, noise))
    straight.save(tmp_path / "half.keras")
    resumed = keras.saving.load_model(tmp_path / "half.keras")
    assert (resumed.loss.tries, resumed.loss.reward_weight) == (2, 3)
    for network in (straight, resumed):
        network.train_on_batch(h, trials(labels, noise))
    np.testing.assert_allclose(resumed.get_weights()[0], straight.get_weights()[0], rtol=1e-6)


@pytest.mark.parametrize("epsilon", [-0.1, 1.1, float("nan")])
def test_an_epsilon_that_is_no_share_is_refused(epsilon):
    with pytest.raises(ValueError, match="epsilon: expected a share from 0 to 1"):
        brainprop(Learning(keras.optimizers.SGD()), epsilon)


@pytest.mark.parametrize("tries", [0, -1, 1.5, True])
def test_tries_that_are_no_count_are_refused(tries):
    with pytest.raises(ValueError, match="tries: expected a whole number from 1"):
        brainprop(Learning(keras.optimizers.SGD()), tries=tries)


@pytest.mark.parametrize("weight", [0, -1.0, float("nan"), float("inf")])
def test_a_reward_weight_that_is_no_weight_is_refused(weight):
    with pytest.raises(ValueError, match=r"reward_weight: expected a number (above 0|up to)"):
        brainprop(Learning(keras.optimizers.SGD()), reward_weight=weight)


def test_wrong_constants_of_the_metaplastic_synapses_are_refused():
    with pytest.raises(ValueError, match="strength: expected a number of 0 or more"):
        brainprop(Learning(keras.optimizers.SGD()), metaplastic={"strength": -1})
