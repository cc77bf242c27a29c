"""The optimizer by hand, on whichever backend KERAS_BACKEND names; test_backends.py repeats it."""

import keras
import numpy as np
import pytest

from models.plasticity.synaptic_intelligence import SynapticIntelligence

BASES = {
    "sgd": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda: keras.optimizers.Adam(0.01),
}


def a_weight(*values):
    return keras.Variable(np.array(values, np.float32), name="kernel")


def step(optimizer, weight, *gradient):
    gradient = keras.ops.convert_to_tensor(np.array(gradient, np.float32))
    optimizer.apply([gradient], [weight])


def values(variable):
    return keras.ops.convert_to_numpy(variable)


def test_two_tasks_by_hand():
    weight = a_weight(1.0, -2.0)
    optimizer = SynapticIntelligence(keras.optimizers.SGD(0.5), strength=0.25, damping=0.5)
    step(optimizer, weight, 2.0, 0.0)  # 1 -> 0; gain 2 * 1
    step(optimizer, weight, -1.0, 4.0)  # 0 -> 0.5, gain 1 * 0.5; -2 -> -4, gain 4 * 2
    np.testing.assert_allclose(values(weight), [0.5, -4.0])
    optimizer.end_task()
    # 2.5 / ((0.5 - 1)^2 + 0.5) and 8 / ((-4 + 2)^2 + 0.5)
    importances = np.array([2.5 / 0.75, 8 / 4.5])

    step(optimizer, weight, 1.0, 1.0)  # no penalty yet: the weights are where the task ended
    np.testing.assert_allclose(values(weight), [0.0, -4.5])
    step(optimizer, weight, 0.0, 0.0)  # the penalty alone: 2 c Omega (t - t_end)
    pulled = np.array([0.0, -4.5]) + 0.5 * 2 * 0.25 * importances * 0.5
    np.testing.assert_allclose(values(weight), pulled, rtol=1e-6)

    optimizer.end_task()  # the second step had no gradient of the task, and so no gain
    moved = (pulled - [0.5, -4.0]) ** 2
    expected = importances + 0.5 / (moved + 0.5)
    found = next(v for v in optimizer.variables if v.name.endswith("importance"))
    np.testing.assert_allclose(values(found), expected, rtol=1e-6)


def test_steps_that_raised_the_loss_make_no_importance_below_0():
    weight = a_weight(1.0)
    optimizer = SynapticIntelligence(keras.optimizers.SGD(0.1, momentum=0.9))
    step(optimizer, weight, 1.0)
    step(optimizer, weight, -0.5)  # the momentum goes on: -0.5 * -0.04 less than 1 * 0.1
    optimizer.end_task()
    step(optimizer, weight, -0.05)  # and on: uphill alone
    optimizer.end_task()
    found = next(v for v in optimizer.variables if v.name.endswith("importance"))
    assert values(found) >= 0


@pytest.mark.parametrize("base", BASES)
def test_strength_0_is_the_base_optimizer_bit_for_bit(base):
    random = np.random.default_rng(0)
    gradients = random.normal(size=(6, 2)).astype(np.float32)
    plain, ours = a_weight(0.3, -0.2), a_weight(0.3, -0.2)
    optimizer, around = BASES[base](), SynapticIntelligence(BASES[base](), strength=0)
    for number, gradient in enumerate(gradients):
        step(optimizer, plain, *gradient)
        step(around, ours, *gradient)
        if number == 2:
            around.end_task()
    np.testing.assert_array_equal(values(plain), values(ours))


def small_network(optimizer):
    keras.utils.set_random_seed(3)
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="dense")])
    network.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    optimizer.build(network.trainable_variables)
    return network


def test_it_trains_and_a_saved_network_goes_on_as_if_it_had_not_been_saved(tmp_path):
    random = np.random.default_rng(5)
    x, y = random.random((32, 4), np.float32), random.integers(0, 3, 32)

    def learn(network):
        network.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0)

    def network():
        return small_network(SynapticIntelligence(keras.optimizers.Adam(0.01), strength=5.0))

    whole = network()
    learn(whole)
    whole.optimizer.end_task()
    whole.save_weights(tmp_path / "state.weights.h5")
    learn(whole)
    again = network()
    again.load_weights(tmp_path / "state.weights.h5")
    learn(again)
    for one, other in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_its_configuration_makes_the_same_optimizer_again():
    optimizer = SynapticIntelligence(keras.optimizers.Adam(0.01), strength=0.3, damping=0.2)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is SynapticIntelligence
    assert again.get_config() == optimizer.get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strength": -1.0}, "strength: expected a number of 0 or more, found -1.0"),
        ({"damping": 0.0}, "damping: expected a number above 0, found 0.0"),
    ],
)
def test_bad_constants_are_refused_with_what_was_expected(arguments, message):
    with pytest.raises(ValueError, match=message):
        SynapticIntelligence(keras.optimizers.SGD(), **arguments)
