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
        ({"strength": "much"}, "strength: expected a number of 0 or more, found 'much'"),
        ({"strength": -1.0}, "strength: expected a number of 0 or more, found -1.0"),
        ({"damping": 0.0}, "damping: expected a number above 0, found 0.0"),
        ({"damping": 1e-300}, "damping: expected a number of 1e-30 or more above 0, found"),
        ({"strength": 1e300}, r"strength: expected a number up to 1000000, found 1e\+300"),
    ],
)
def test_bad_constants_are_refused_with_what_was_expected(arguments, message):
    with pytest.raises(ValueError, match=message):
        SynapticIntelligence(keras.optimizers.SGD(), **arguments)


def slot(optimizer, name):
    return values(next(v for v in optimizer.variables if v.name.endswith(name)))


SCALES = {
    "none": lambda base: base(),
    "fixed": lambda base: base(loss_scale_factor=16.0),
    "dynamic": lambda base: keras.optimizers.LossScaleOptimizer(base(), initial_scale=16.0),
}


@pytest.mark.parametrize("scale", SCALES)
def test_a_loss_scale_changes_neither_gain_nor_penalty(scale):
    weight, factor = a_weight(1.0, -2.0), 1.0 if scale == "none" else 16.0
    base = SCALES[scale](lambda **settings: keras.optimizers.SGD(0.5, **settings))
    optimizer = SynapticIntelligence(base, strength=0.25, damping=0.5)
    optimizer.build([weight])
    take = step_stateless if keras.backend.backend() == "jax" else step
    take(optimizer, weight, 2.0 * factor, 4.0 * factor)
    np.testing.assert_allclose(slot(optimizer, "gain"), [2.0, 8.0])
    optimizer.end_task()
    np.testing.assert_allclose(slot(optimizer, "importance"), [2 / 1.5, 8 / 4.5], rtol=1e-6)
    weight.assign([1.0, -4.0])
    take(optimizer, weight, 0.0, 0.0)
    pulled = 1 - 0.5 * 2 * 0.25 * (2 / 1.5)  # towards the task's end, 0
    np.testing.assert_allclose(values(weight), [pulled, -4.0], rtol=1e-6)


def step_stateless(optimizer, weight, *gradient):
    """A step as Keras' JAX trainer takes it: a LossScaleOptimizer takes no other there."""
    gradient = keras.ops.convert_to_tensor(np.array(gradient, np.float32))
    state = [keras.ops.copy(keras.ops.convert_to_tensor(v)) for v in optimizer.variables]
    weights, state = optimizer.stateless_apply(
        state, [gradient], [keras.ops.copy(keras.ops.convert_to_tensor(weight))]
    )
    for variable, value in zip([weight, *optimizer.variables], [*weights, *state], strict=True):
        variable.assign(value)


def test_a_step_that_the_loss_scale_leaves_out_gains_nothing():
    weight = a_weight(1.0, -2.0)
    base = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5), initial_scale=16.0)
    optimizer = SynapticIntelligence(base)
    optimizer.build([weight])
    take = step_stateless if keras.backend.backend() == "jax" else step
    take(optimizer, weight, np.inf, 1.0)
    np.testing.assert_array_equal(values(weight), [1.0, -2.0])
    np.testing.assert_array_equal(slot(optimizer, "gain"), [0.0, 0.0])


def test_accumulated_gradients_gain_what_their_mean_gains():
    weights = a_weight(1.0, -2.0), a_weight(1.0, -2.0)
    once = SynapticIntelligence(keras.optimizers.SGD(0.5))
    twice = SynapticIntelligence(keras.optimizers.SGD(0.5, gradient_accumulation_steps=2))
    for first, second in (((1.0, 4.0), (3.0, -2.0)), ((2.0, 2.0), (0.0, 6.0))):
        step(twice, weights[1], *first)
        step(twice, weights[1], *second)
        step(once, weights[0], *(np.array(first) + second) / 2)
    np.testing.assert_allclose(values(weights[1]), values(weights[0]), rtol=1e-6)
    np.testing.assert_allclose(slot(twice, "gain"), slot(once, "gain"), rtol=1e-6)


def test_a_variable_without_gradient_and_some_of_the_variables_are_learned_as_by_the_base():
    one, other = a_weight(1.0), a_weight(2.0)
    optimizer = SynapticIntelligence(keras.optimizers.SGD(0.5))
    optimizer.build([one, other])
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([None, keras.ops.ones(1)], [one, other])
    step(optimizer, other, 1.0)
    optimizer.end_task()
    np.testing.assert_allclose([values(one), values(other)], [[1.0], [1.0]])


def test_float16_weights_gain_in_float32():
    weight = keras.Variable(np.array([1.0], np.float16), name="kernel", dtype="float16")
    optimizer = SynapticIntelligence(keras.optimizers.SGD(2.0**-7))
    gradient = keras.ops.convert_to_tensor(np.array([0.125], np.float16))
    for _ in range(64):
        optimizer.apply([gradient], [weight])
    optimizer.end_task()
    assert weight.dtype == "float16"
    moved = 64 * 2.0**-10
    found = slot(optimizer, "importance")
    np.testing.assert_allclose(found, [0.125 * moved / (moved**2 + 0.1)], rtol=1e-5)


def test_embeddings_have_gradients_for_the_rows_they_used():
    keras.utils.set_random_seed(3)
    network = keras.Sequential(
        [keras.Input((2,)), keras.layers.Embedding(5, 3), keras.layers.GlobalAveragePooling1D()]
    )
    network.compile(SynapticIntelligence(keras.optimizers.SGD(0.5)), "mse")
    tokens = np.array([[1, 3], [3, 4]])
    for _ in range(2):
        network.fit(tokens, np.ones((2, 3), np.float32), verbose=0)
        network.optimizer.end_task()
    importance = slot(network.optimizer, "importance")
    assert (importance[[0, 2]] == 0).all()
    assert (importance[[1, 3, 4]] > 0).all()


def test_a_task_cannot_end_before_one_was_learned():
    with pytest.raises(ValueError, match="end_task: expected an optimizer that has learned"):
        SynapticIntelligence(keras.optimizers.SGD()).end_task()


@pytest.mark.parametrize("number", [np.float32(0.5), np.int64(1)])
def test_a_numpy_scalar_is_a_number(number):
    optimizer = SynapticIntelligence(keras.optimizers.SGD(), strength=number, damping=number)
    assert (optimizer.strength, optimizer.damping) == (float(number), float(number))
