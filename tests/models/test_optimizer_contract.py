"""An optimizer in a wrapper of strength 0 is that optimizer, in all that Keras lets it do.

CONTRACT names each member of `keras.optimizers.Optimizer` with what is tried of it, on the base
alone and in each wrapper, and both must end alike, bit for bit. A member that a new Keras brings
fails the first test until CONTRACT names it. This runs on the backend that KERAS_BACKEND names;
test_backends.py repeats it on the others.
"""

import copy
import pickle
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from models.plasticity.metaplastic import Metaplastic
from models.plasticity.synaptic_intelligence import SynapticIntelligence

BASES = {
    "sgd": lambda **settings: keras.optimizers.SGD(
        **{"learning_rate": 0.1, "momentum": 0.9, "nesterov": True, **settings}
    ),
    "adam": lambda **settings: keras.optimizers.Adam(**{"learning_rate": 0.1, **settings}),
    "adamw": lambda **settings: keras.optimizers.AdamW(**{"learning_rate": 0.1, **settings}),
    "lion": lambda **settings: keras.optimizers.Lion(**{"learning_rate": 0.1, **settings}),
    "muon": lambda **settings: keras.optimizers.Muon(**{"learning_rate": 0.1, **settings}),
}
# Each member on each backend, but not each base: on PyTorch two whose steps Keras writes anew
# there, and on JAX, where it writes none anew, one.
ELSEWHERE = {"torch": ("sgd", "adam"), "jax": ("sgd",)}
TRIED = [
    base if base == "sgd" else pytest.param(base, marks=pytest.mark.slow)
    for base in ELSEWHERE.get(keras.backend.backend(), BASES)
]
WRAPPERS = {
    "Metaplastic": lambda base: Metaplastic(base, strength=0),
    "SynapticIntelligence": lambda base: SynapticIntelligence(base, strength=0),
}


def values(tensors):
    return [np.array(ops.convert_to_numpy(tensor)) for tensor in tensors]


def model_variables():
    """A convolution's kernel, a constrained matrix, a bias, and one that takes its gradient."""
    random = np.random.default_rng(1)
    shapes = {"kernel": (2, 2, 1, 3), "dense_kernel": (4, 3), "bias": (3,), "amax": (2,)}
    found = [
        keras.Variable(random.normal(size=shape).astype(np.float32), name=name)
        for name, shape in shapes.items()
    ]
    found[1].constraint = keras.constraints.MaxNorm(0.5)
    found[3].overwrite_with_gradient = True
    return found


# Keras' averages fail on a variable that takes its gradient: trials with use_ema leave it out.


def gradients(variables, step):
    random = np.random.default_rng(step)
    return [
        ops.convert_to_tensor(random.normal(size=variable.shape).astype(np.float32))
        for variable in variables
    ]


def train(optimizer, variables, steps=4, first=0):
    """Take steps; give the model's weights, the optimizer's, and the count of iterations."""
    for step in range(first, first + steps):
        optimizer.apply(gradients(variables, step), variables)
    return state(optimizer, variables)


def state(optimizer, variables):
    return {
        "model": values(variables),
        "optimizer": values(optimizer.variables),
        "iterations": int(ops.convert_to_numpy(optimizer.iterations)),
        "learning_rate": float(ops.convert_to_numpy(optimizer.learning_rate)),
    }


def error_of(call):
    """The class of the exception that a call raises; it must raise one."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  (compared with the base's)
        call()
    return caught.type


def built(make, **settings):
    optimizer, variables = make(**settings), model_variables()
    optimizer.build(variables)
    return optimizer, variables


def steps(make):
    yield train(make(), model_variables())
    optimizer, variables = built(make)
    for step in range(3):
        optimizer.apply(gradients(variables, step))
    yield state(optimizer, variables)


def steps_on_some_variables(make):
    optimizer, variables = built(make)
    optimizer.apply(gradients(variables[:2], 0), variables[:2])
    yield state(optimizer, variables)
    yield train(optimizer, variables[1:])


def steps_without_some_gradients(make):
    optimizer, variables = built(make)
    given = [
        gradient if place == 2 else None for place, gradient in enumerate(gradients(variables, 0))
    ]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        optimizer.apply(given, variables)
    yield len(seen), [str(warning.message) for warning in seen]
    yield state(optimizer, variables)
    yield error_of(lambda: optimizer.apply([None] * 4, variables))


def steps_that_give_one_variable_twice(make):
    optimizer, variables = make(), model_variables()[2:3]
    optimizer.build(variables)
    optimizer.apply(gradients(variables * 2, 0), variables * 2)
    yield state(optimizer, variables)


def steps_that_cannot_be(make):
    optimizer, variables = make(), model_variables()
    optimizer.apply([], [])
    yield optimizer.built
    yield error_of(lambda: make().apply(gradients(variables, 0)))
    yield train(optimizer, variables)
    yield error_of(lambda: optimizer.apply(gradients(variables * 2, 0)))
    yield error_of(lambda: optimizer.apply(gradients(variables, 0)[:2]))
    yield error_of(lambda: optimizer.apply(gradients(variables, 0), model_variables()))
    yield state(optimizer, variables)


def steps_by_pairs(make):
    optimizer, variables = make(gradient_accumulation_steps=2), model_variables()
    for step in range(3):
        returned = optimizer.apply_gradients(
            zip(gradients(variables, step), variables, strict=True)
        )
        yield int(ops.convert_to_numpy(returned))
    yield state(optimizer, variables)


def steps_of_one_variable(make):
    optimizer, variables = built(make)
    for variable, gradient in zip(variables[:3], gradients(variables, 0), strict=False):
        optimizer.update_step(gradient, variable, ops.convert_to_tensor(np.float32(0.01)))
    yield state(optimizer, variables)


def stateless_steps(make):
    def call(optimizer, variables, more=0):
        state_of_it = [ops.copy(ops.convert_to_tensor(v)) for v in optimizer.variables]
        weights = [ops.copy(ops.convert_to_tensor(v)) for v in variables]
        state_of_it += state_of_it[:more]
        return optimizer.stateless_apply(state_of_it, gradients(variables, 0), weights)

    optimizer, variables = built(make)
    yield error_of(lambda: call(make(), model_variables()))
    yield error_of(lambda: call(optimizer, variables, more=1))
    yield error_of(lambda: call(optimizer, variables[:2]))
    if keras.backend.backend() == "tensorflow":
        yield error_of(lambda: call(optimizer, variables))
        return
    weights, rest = call(optimizer, variables)
    yield {"model": values(weights), "optimizer": values(rest)}
    yield state(optimizer, variables)


def buildings(make):
    optimizer, variables = make(), model_variables()
    yield optimizer.built
    optimizer.build(variables)
    optimizer.build(variables)
    yield optimizer.built, state(optimizer, variables)


def weights_of_it(make):
    optimizer, variables = built(make, use_ema=True, gradient_accumulation_steps=2)
    yield {"optimizer": [(tuple(v.shape), v.dtype, v.trainable) for v in optimizer.variables]}
    yield train(optimizer, variables)


def rates(make):
    optimizer, variables = built(make)
    yield train(optimizer, variables, 1)
    optimizer.learning_rate = 0.5
    yield train(optimizer, variables, 1)
    optimizer.learning_rate = keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)
    yield train(optimizer, variables, 2)
    yield error_of(lambda: setattr(optimizer, "learning_rate", 0.5))
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.5, 0.0])
    yield train(make(learning_rate=schedule), model_variables())
    yield train(make(learning_rate=lambda: 0.25), model_variables())


def counts(make):
    optimizer, variables = built(make, gradient_accumulation_steps=3)
    for step in range(4):
        yield train(optimizer, variables, 1, step)
    yield error_of(lambda: setattr(optimizer, "iterations", 3))


def exclusions(make):
    optimizer, variables = make(weight_decay=0.5), model_variables()
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    yield train(optimizer, variables)
    optimizer, variables = make(weight_decay=0.5), model_variables()
    optimizer.exclude_from_weight_decay(var_list=[variables[0]])
    yield train(optimizer, variables)
    optimizer, variables = built(make, weight_decay=0.5)
    optimizer.exclude_from_weight_decay([variables[0]], ["bias"])  # Keras takes it then, too
    yield train(optimizer, variables)


def last_values(make):
    optimizer, variables = make(use_ema=True, ema_momentum=0.5), model_variables()[:3]
    yield train(optimizer, variables)
    optimizer.finalize_variable_values(variables)
    yield state(optimizer, variables)
    optimizer, variables = built(make)
    optimizer.finalize_variable_values(variables)
    yield state(optimizer, variables)


def configurations(make):
    optimizer = make(clipnorm=0.5, weight_decay=0.2)
    again = type(optimizer).from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    yield train(again, model_variables())
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    yield train(again, model_variables())


def copies(make):
    for copied in (copy.copy, copy.deepcopy, lambda given: pickle.loads(pickle.dumps(given))):
        optimizer = copied(make(clipnorm=0.5))
        yield optimizer.clipnorm, train(optimizer, model_variables())


def set_states(make):
    optimizer, variables = built(make)
    weights = train(optimizer, variables)["optimizer"]
    again, others = built(make)
    again.set_weights(weights)
    yield train(again, others)
    yield error_of(lambda: make().set_weights(weights))
    yield error_of(lambda: again.set_weights([*weights[:2], np.zeros((7, 7))]))


def stored_states(make):
    optimizer, variables = built(make)
    train(optimizer, variables)
    stored = {}
    optimizer.save_own_variables(stored)
    yield {"optimizer": [np.array(stored[str(place)]) for place in range(len(stored))]}
    again, others = built(make)
    again.load_own_variables(stored)
    yield train(again, others)
    with pytest.warns(UserWarning, match="Skipping variable loading"):
        make().load_own_variables(stored)


def scaled_losses(make):
    yield float(make().scale_loss(ops.convert_to_tensor(np.float32(3))))
    yield float(make(loss_scale_factor=8.0).scale_loss(ops.convert_to_tensor(np.float32(3))))


def assignments(make):
    optimizer = make()
    variable = keras.Variable(np.ones(3, np.float32))
    for assign in (optimizer.assign, optimizer.assign_add, optimizer.assign_sub):
        assign(variable, ops.convert_to_tensor(np.array([1, 2, 3], np.float32)))
        yield values([variable])


def added_variables(make):
    optimizer, (kernel, *_) = make(), model_variables()
    added = [
        optimizer.add_variable((2,), initializer="ones", name="one"),
        optimizer.add_variable_from_reference(kernel, "two"),
        *optimizer.add_optimizer_variables([kernel], "three", initializer="ones"),
    ]
    assert all(one is other for one, other in zip(optimizer.variables[-3:], added, strict=True))
    yield [(tuple(variable.shape), variable.dtype, variable.trainable) for variable in added]
    yield values(added)


def a_name(make):
    optimizer = make(name="mine")
    assert optimizer.name == optimizer.get_config()["name"]
    yield type(optimizer.name)


def setting(name, first, second, **others):
    """A setting read as it was made, then set to another value, with which steps are taken."""

    def settings(make):
        optimizer, variables = make(**{name: first, **others}), model_variables()[:3]
        optimizer.build(variables)
        yield getattr(optimizer, name), train(optimizer, variables)
        setattr(optimizer, name, second)
        yield getattr(optimizer, name), train(optimizer, variables)

    return settings


CONTRACT = {
    "apply": [
        *(steps, steps_on_some_variables, steps_without_some_gradients),
        *(steps_that_give_one_variable_twice, steps_that_cannot_be),
    ],
    "apply_gradients": [steps_by_pairs],
    "update_step": [steps_of_one_variable],
    "stateless_apply": [stateless_steps],
    "build": [buildings],
    "built": [buildings],
    "variables": [weights_of_it],
    "learning_rate": [rates],
    "iterations": [counts],
    "exclude_from_weight_decay": [exclusions],
    "finalize_variable_values": [last_values],
    "get_config": [configurations, copies],
    "from_config": [configurations],
    "set_weights": [set_states],
    "save_own_variables": [stored_states],
    "load_own_variables": [stored_states],
    "scale_loss": [scaled_losses],
    "assign": [assignments],
    "assign_add": [assignments],
    "assign_sub": [assignments],
    "add_variable": [added_variables],
    "add_variable_from_reference": [added_variables],
    "add_optimizer_variables": [added_variables],
    "name": [a_name],
    "weight_decay": [setting("weight_decay", 0.5, 0.25)],
    "clipnorm": [setting("clipnorm", 0.5, 0.25)],
    "clipvalue": [setting("clipvalue", 0.5, 0.25)],
    "global_clipnorm": [setting("global_clipnorm", 0.5, 0.25)],
    "loss_scale_factor": [setting("loss_scale_factor", 8.0, None)],
    "gradient_accumulation_steps": [setting("gradient_accumulation_steps", 2, 4)],
    "use_ema": [setting("use_ema", True, False)],
    "ema_momentum": [setting("ema_momentum", 0.5, 0.25, use_ema=True)],
    "ema_overwrite_frequency": [setting("ema_overwrite_frequency", 2, 3, use_ema=True)],
}


def test_the_contract_names_every_public_member_of_keras_optimizer():
    made = keras.optimizers.Optimizer(learning_rate=0.1)
    members = {*dir(keras.optimizers.Optimizer), *vars(made)}
    assert {member for member in members if not member.startswith("_")} == set(CONTRACT)


TRIALS = {trial: [] for trials in CONTRACT.values() for trial in trials}  # each runs once
for member, trials in CONTRACT.items():
    for trial in trials:
        TRIALS[trial].append(member)


@pytest.mark.parametrize("base", TRIED)
@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: " ".join(TRIALS[trial]))
def test_a_wrapper_of_strength_0_is_its_base_in(trial, base):
    expected = list(trial(BASES[base]))
    assert expected
    for name, around in WRAPPERS.items():
        found = list(trial(lambda around=around, **settings: around(BASES[base](**settings))))
        assert_alike(found, expected, f"{base} in {name}")


# What Keras' own LossScaleOptimizer does otherwise than an optimizer, or not at all.
NOT_OF_A_LOSS_SCALE = {
    *(steps_that_cannot_be, steps_of_one_variable, stateless_steps, buildings, added_variables),
}


@pytest.mark.parametrize(
    "trial",
    [trial for trial in TRIALS if trial not in NOT_OF_A_LOSS_SCALE],
    ids=lambda trial: " ".join(TRIALS[trial]),
)
@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="its steps outside a trainer cannot be traced there"
)
def test_a_wrapper_of_strength_0_is_its_base_with_a_loss_scale_in(trial):
    def scaled(**settings):
        base = keras.optimizers.Adam(**{"learning_rate": 0.1, **settings})
        return keras.optimizers.LossScaleOptimizer(base, initial_scale=8.0)

    expected = list(trial(scaled))
    for name, around in WRAPPERS.items():
        found = list(trial(lambda around=around, **settings: around(scaled(**settings))))
        assert_alike(found, expected, f"loss scale in {name}")


@pytest.mark.parametrize("around", WRAPPERS)
def test_a_wrapper_around_a_loss_scale_is_a_loss_scale(around):
    base = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(beta_1=0.5), 8.0, 3)
    optimizer = WRAPPERS[around](base)
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    assert isinstance(optimizer, {"Metaplastic": Metaplastic}.get(around, SynapticIntelligence))
    assert (optimizer.initial_scale, optimizer.dynamic_growth_steps) == (8.0, 3)
    assert optimizer.inner_optimizer is base.inner_optimizer
    assert not isinstance(
        WRAPPERS[around](keras.optimizers.Adam()), keras.optimizers.LossScaleOptimizer
    )


def test_what_only_the_base_has_can_be_read_of_the_wrapper():
    optimizer = Metaplastic(keras.optimizers.Adam(beta_1=0.5))
    assert optimizer.beta_1 == 0.5
    with pytest.raises(AttributeError, match="no attribute 'beta_3'"):
        _ = optimizer.beta_3


def trained_as_compile_does(optimizer, callbacks=(), folder=None):
    """A network under mixed_float16, after an epoch; with a folder, saved, loaded, and another."""
    keras.utils.set_random_seed(3)
    layers = [
        *(keras.Input((6, 6, 1)), keras.layers.Conv2D(4, 3), keras.layers.Flatten()),
        keras.layers.Dense(3, dtype="float32"),
    ]
    network = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(optimizer, loss)
    random = np.random.default_rng(5)
    images, labels = random.random((32, 6, 6, 1), np.float32), random.integers(0, 3, 32)
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0, "callbacks": list(callbacks)}
    network.fit(images, labels, **fit)
    if folder is not None:
        network.save(folder / "half.keras")
        network = keras.saving.load_model(folder / "half.keras")
        network.fit(images, labels, **fit)
    return network


@pytest.fixture
def mixed_float16():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("around", WRAPPERS)
@pytest.mark.parametrize("saved", [False, True])
def test_compile_puts_no_other_loss_scale_around_one_with_a_loss_scale_inside(
    mixed_float16, around, saved, tmp_path
):
    def scaled():
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01))

    folder = tmp_path if saved else None
    expected = trained_as_compile_does(scaled(), folder=folder)
    found = trained_as_compile_does(WRAPPERS[around](scaled()), folder=folder)
    assert type(found.optimizer.base) is keras.optimizers.LossScaleOptimizer
    assert_alike(found.get_weights(), expected.get_weights(), around)
    count = len(expected.optimizer.variables)
    assert_alike(
        values(found.optimizer.variables)[:count], values(expected.optimizer.variables), around
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.optimizers.Adam(0.01, use_ema=True),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01, use_ema=True)),
        lambda: keras.optimizers.MultiOptimizer(
            lambda variable: keras.optimizers.Adam(0.01, use_ema=True)
        ),
    ],
    ids=["plain", "loss scale", "several"],
)
@pytest.mark.parametrize("around", WRAPPERS)
def test_swap_ema_weights_finds_the_averages_wherever_the_base_has_them(make, around):
    def callbacks():
        return [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]

    expected = trained_as_compile_does(make(), callbacks())
    found = trained_as_compile_does(WRAPPERS[around](make()), callbacks())
    assert_alike(found.get_weights(), expected.get_weights(), around)


def assert_alike(found, expected, where):
    """Equal, bit for bit. A wrapper's own variables come behind those of the base."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key, part in expected.items():
            count = len(part) if key == "optimizer" else None
            assert_alike(
                found[key] if count is None else found[key][:count], part, f"{where}: {key}"
            )
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for place, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_alike(one, other, f"{where}, {place}")
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(found, expected, err_msg=where)
    else:
        assert found == expected, where
