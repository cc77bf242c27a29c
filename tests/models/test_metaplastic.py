"""The optimizer, on whichever backend KERAS_BACKEND names; test_backends.py repeats it."""

import gc
import math

import keras
import numpy as np
import pytest

from models.architectures import build
from models.architectures.blocks import locally_connected
from models.plasticity.metaplastic import (
    Metaplastic,
    consolidating_factors,
    kernel_factors,
    pattern_factors,
)
from models.plasticity.synaptic_intelligence import SynapticIntelligence
from models.training.fast_clone import fast_clone

RULES = ("pattern", "kernel", "consolidating")
BASES = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "nesterov": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda: keras.optimizers.Adam(0.01, clipnorm=1.0),
    "adamw": lambda: keras.optimizers.AdamW(0.01),
}
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
TRIED = BASES if ON_TENSORFLOW else ("nesterov", "adam")
STEPS = 5


def small_network():
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        name="small",
        layers=[
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(4, 3, name="conv"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, name="dense"),
        ],
    )


def made_data(n=32):
    random = np.random.default_rng(5)
    return random.random((n, 6, 6, 1), np.float32), random.integers(0, 3, n)


def compiled(optimizer, jit_compile=False):
    network = small_network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(optimizer, loss, jit_compile=jit_compile)
    return network


def take_steps(optimizer, steps, seed=0):
    """The network's weights by variable path after `steps` steps on made gradients."""
    network = small_network()
    random = np.random.default_rng(seed)
    for _ in range(steps):
        gradients = [
            keras.ops.convert_to_tensor(random.normal(size=v.shape).astype(np.float32))
            for v in network.trainable_variables
        ]
        optimizer.apply(gradients, network.trainable_variables)
    return {v.path: keras.ops.convert_to_numpy(v) for v in network.trainable_variables}


def one_step(rule, gradient, weights, name="kernel", **constants):
    """The weights after one step of plain SGD with learning rate 1 inside the rule."""
    variable = keras.Variable(np.array(weights, np.float32), name=name)
    optimizer = Metaplastic(keras.optimizers.SGD(1.0), rule, **constants)
    optimizer.apply([keras.ops.convert_to_tensor(np.array(gradient, np.float32))], [variable])
    return keras.ops.convert_to_numpy(variable)


@pytest.mark.parametrize("base", TRIED)
@pytest.mark.parametrize("rule", RULES)
def test_strength_0_is_the_base_optimizer_bit_for_bit(rule, base):
    plain = take_steps(BASES[base](), STEPS)
    metaplastic = take_steps(Metaplastic(BASES[base](), rule, strength=0), STEPS)
    for path, weights in plain.items():
        np.testing.assert_array_equal(metaplastic[path], weights, err_msg=path)


@pytest.mark.parametrize("base", TRIED)
@pytest.mark.parametrize("rule", ["kernel", "consolidating"])
def test_a_strength_above_0_changes_the_kernels_and_nothing_else(rule, base):
    plain = take_steps(BASES[base](), STEPS)
    metaplastic = take_steps(Metaplastic(BASES[base](), rule, strength=1.0), STEPS)
    for path, weights in plain.items():
        is_plastic = path.endswith("kernel") and (rule == "consolidating" or "conv" in path)
        assert (metaplastic[path] != weights).any() == is_plastic, path


def scaled_kernels(network, rule):
    """The paths of the variables whose steps, from the network's weights, are not the base's."""
    weights, stepped = network.get_weights(), []
    random = np.random.default_rng(2)
    gradients = [
        keras.ops.convert_to_tensor(random.normal(size=v.shape).astype(np.float32))
        for v in network.trainable_variables
    ]
    for optimizer in (keras.optimizers.SGD(0.1), Metaplastic(keras.optimizers.SGD(0.1), rule)):
        network.set_weights(weights)
        optimizer.apply(gradients, network.trainable_variables)
        stepped.append([keras.ops.convert_to_numpy(v) for v in network.trainable_variables])
    network.set_weights(weights)
    return [
        variable.path.removeprefix(f"{network.name}/")
        for variable, plain, ours in zip(network.trainable_variables, *stepped, strict=True)
        if (plain != ours).any()
    ]


class HalvedConvolution(keras.layers.Conv2D):
    def call(self, inputs):
        return super().call(inputs) / 2


@pytest.mark.skipif(not ON_TENSORFLOW, reason="these layers are the same on every backend")
@pytest.mark.parametrize(
    ("layer", "shape", "kernels"),
    [
        (keras.layers.Conv1D(4, 3), (6, 2), ["kernel"]),
        (keras.layers.Conv2D(4, 3), (6, 6, 2), ["kernel"]),
        (keras.layers.Conv3D(4, 3), (6, 6, 6, 2), ["kernel"]),
        (keras.layers.Conv1DTranspose(4, 3), (6, 2), ["kernel"]),
        (keras.layers.Conv2DTranspose(4, 3), (6, 6, 2), ["kernel"]),
        (keras.layers.Conv3DTranspose(4, 3), (6, 6, 6, 2), ["kernel"]),
        (keras.layers.DepthwiseConv1D(3), (6, 2), ["kernel"]),
        (keras.layers.DepthwiseConv2D(3), (6, 6, 2), ["kernel"]),
        (keras.layers.SeparableConv1D(4, 3), (6, 2), ["depthwise_kernel", "pointwise_kernel"]),
        (keras.layers.SeparableConv2D(4, 3), (6, 6, 2), ["depthwise_kernel", "pointwise_kernel"]),
        (keras.layers.ConvLSTM2D(4, 3), (2, 6, 6, 2), ["kernel", "recurrent_kernel"]),
        (HalvedConvolution(4, 3), (6, 6, 2), ["kernel"]),
        (keras.layers.SpectralNormalization(keras.layers.Conv2D(4, 3)), (6, 6, 2), ["kernel"]),
        (keras.layers.TimeDistributed(keras.layers.Conv2D(4, 3)), (2, 6, 6, 2), ["kernel"]),
        (keras.layers.EinsumDense("abc,cde->abde", (6, 2, 2)), (6, 2), []),
        (keras.layers.Dense(4), (6, 2), []),
        (keras.layers.LSTM(4), (6, 2), []),
    ],
)
def test_the_rule_kernel_knows_a_convolution_by_its_layer(layer, shape, kernels):
    network = keras.Sequential([keras.Input(shape), layer])
    found = scaled_kernels(network, "kernel")
    assert [path.rpartition("/")[2] for path in found] == kernels


def network_of_all_kinds():
    """A convolution, a locally connected layer, attention and a dense layer, oddly named."""
    keras.utils.set_random_seed(4)
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(4, 3, name="attention_dense")(inputs)
    x = locally_connected(x, 4, 3, name="conv2d")
    x = keras.layers.Reshape((4, 4))(x)
    x = keras.layers.MultiHeadAttention(2, 3, name="convolution")(x, x)
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="depthwise_conv")(x), name="kinds")


def test_consolidating_acts_on_the_kernels_of_every_kind_of_layer():
    assert scaled_kernels(network_of_all_kinds(), "consolidating") == [
        *("attention_dense/kernel", "conv2d/kernel", "convolution/query/kernel"),
        *("convolution/key/kernel", "convolution/value/kernel"),
        *("convolution/attention_output/kernel", "depthwise_conv/kernel"),
    ]


def saved_and_loaded(network, folder):
    network.save(folder / "kinds.keras")
    return keras.saving.load_model(folder / "kinds.keras")


@pytest.mark.parametrize(
    "made",
    [
        lambda network, folder: network,
        lambda network, folder: keras.models.clone_model(network),
        saved_and_loaded,
    ],
    ids=["built", "cloned", "loaded"],
)
def test_the_rule_kernel_acts_on_convolutions_alone_wherever_a_model_comes_from(made, tmp_path):
    network = made(network_of_all_kinds(), tmp_path)
    assert scaled_kernels(network, "kernel") == ["attention_dense/kernel"]


@pytest.mark.parametrize(
    ("architecture", "rule", "count"),
    [
        *(("lenet", "kernel", 2), ("lenet", "consolidating", 5)),
        *(("loccon", "kernel", 0), ("loccon", "consolidating", 4)),
    ],
)
def test_the_rules_act_on_these_many_kernels_of_a_training_network(architecture, rule, count):
    network = fast_clone(build(architecture, (28, 28, 1), 10, (0.5,), (0.25,)), "float32")
    assert len(scaled_kernels(network, rule)) == count


def scaled_by(optimizer, network):
    """The paths of the variables whose step is not plain SGD's of rate 0.1."""
    before = network.get_weights()
    random = np.random.default_rng(2)
    gradients = [
        keras.ops.convert_to_tensor(random.normal(size=v.shape).astype(np.float32))
        for v in network.trainable_variables
    ]
    weights = [keras.ops.convert_to_numpy(v).copy() for v in network.trainable_variables]
    optimizer.apply(gradients, network.trainable_variables)
    found = [
        variable.path
        for variable, start, gradient in zip(
            network.trainable_variables, weights, gradients, strict=True
        )
        if not np.array_equal(
            keras.ops.convert_to_numpy(variable),
            start - np.float32(0.1) * keras.ops.convert_to_numpy(gradient),
        )
    ]
    network.set_weights(before)
    return found


def test_which_kernels_are_scaled_is_of_the_variables_that_the_base_was_built_for():
    network = network_of_all_kinds()
    variables = network.trainable_variables
    kernels = [variable.path for variable in variables if variable.name == "kernel"]
    rule = {"rule": "consolidating", "strength": 2.0}

    base = keras.optimizers.SGD(0.1)
    base.build(variables)
    around_a_built_one = Metaplastic(base, **rule)
    around_a_built_one.apply([keras.ops.ones(variables[0].shape)], variables[:1])

    built_twice = Metaplastic(keras.optimizers.SGD(0.1), **rule)
    built_twice.build(variables)
    built_twice.build(variables[:1])

    for optimizer in (around_a_built_one, built_twice):
        assert scaled_by(optimizer, network) == kernels


def test_an_importance_is_kept_of_each_variable_that_the_base_was_built_for():
    variables = network_of_all_kinds().trainable_variables
    base = keras.optimizers.SGD(0.1)
    base.build(variables)
    optimizer = SynapticIntelligence(base)
    optimizer.build(variables[:1])
    optimizer.build(variables)
    names = [variable.name for variable in optimizer.variables]
    assert sum(name.endswith("importance") for name in names) == len(variables)


@pytest.fixture
def frozen_objects():
    freeze = gc.freeze
    yield freeze
    gc.unfreeze()


@pytest.mark.slow
def test_the_rule_kernel_finds_layers_that_the_garbage_collector_was_told_to_leave(frozen_objects):
    network = network_of_all_kinds()
    frozen_objects()
    assert scaled_kernels(network, "kernel") == ["attention_dense/kernel"]


class AskedInVain(keras.layers.Layer):
    """A layer whose variables cannot be asked for yet."""

    built = True

    @property
    def variables(self):
        raise RuntimeError("not yet")


class NeverMade(keras.layers.Layer):
    def __init__(self):
        pass


def test_the_rule_kernel_asks_nothing_of_layers_of_others():
    others = [keras.layers.Conv2D.__new__(keras.layers.Conv2D), AskedInVain.__new__(AskedInVain)]
    others += [AskedInVain()]
    try:
        others += [NeverMade()]
    except RuntimeError as error:  # Keras' own on some backends
        others += [error]
    assert scaled_kernels(network_of_all_kinds(), "kernel") == ["attention_dense/kernel"]
    assert len(others) == 4


class AttentiveConvolution(keras.layers.Conv1D):
    """A convolution that holds an attention layer."""

    def build(self, shape):
        super().build(shape)
        self.attention = keras.layers.MultiHeadAttention(2, 4)
        inside = (*shape[:2], self.filters)
        self.attention.build(inside, inside)

    def call(self, inputs):
        outputs = super().call(inputs)
        return self.attention(outputs, outputs)


def test_what_a_derived_convolution_holds_in_further_layers_is_no_convolution():
    layer = AttentiveConvolution(4, 3, padding="same", name="both")
    network = keras.Sequential([keras.Input((8, 4)), layer])
    assert scaled_kernels(network, "kernel") == ["both/kernel"]


@pytest.mark.parametrize(
    ("scope", "shape", "scaled"),
    [
        ("block", (3, 2, 4), True),
        ("block", (3, 4), False),
        ("self_attention", (3, 2, 4), False),
        ("Einsum_dense", (3, 2, 4), False),
        ("attention_stem", (3, 3, 2, 4), True),
    ],
)
def test_a_kernel_that_no_layer_holds_is_a_convolutions_where_it_looks_so(scope, shape, scaled):
    start = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 1
    with keras.name_scope(scope):
        kernel = keras.Variable(start, name="kernel")
    optimizer = Metaplastic(keras.optimizers.SGD(1.0), "kernel", strength=1.0)
    optimizer.apply([keras.ops.ones(shape)], [kernel])
    steps = start - keras.ops.convert_to_numpy(kernel)
    assert (np.abs(steps - 1) > 0.01).any() == scaled


def test_a_loaded_model_goes_on_with_the_rule_kernel_on_its_convolutions(tmp_path):
    images, labels = made_data()
    network = compiled(Metaplastic(keras.optimizers.SGD(0.1), "kernel", strength=2.0))
    network.fit(images, labels, verbose=0, shuffle=False)
    network.save(tmp_path / "half.keras")
    scaled = keras.saving.load_model(tmp_path / "half.keras")
    plain = keras.saving.load_model(tmp_path / "half.keras")
    plain.compile(keras.optimizers.SGD(0.1), plain.loss)
    for again in (scaled, plain):
        again.fit(images, labels, verbose=0, shuffle=False)
    differ = [
        variable.path
        for variable, other in zip(scaled.variables, plain.variables, strict=True)
        if np.abs(keras.ops.convert_to_numpy(variable) - keras.ops.convert_to_numpy(other)).max()
        > 1e-6
    ]
    assert differ == ["conv/kernel"]


def test_a_step_of_kernel_by_hand():
    # One 2x2 kernel, weights 0, 1, 2, 1: mean square 1.5; B = 2, so log s = w^2 / 1.5.
    kernel = np.array([[0.0, 1.0], [2.0, 1.0]]).reshape(2, 2, 1, 1)
    gradient = np.full((2, 2, 1, 1), 0.5)
    raw = np.exp(np.array([0.0, 1.0, 4.0, 1.0]) / 1.5)
    factors = np.clip(raw / raw.mean(), 1 / 3, 3)
    assert factors[0] == pytest.approx(1 / 3)  # clipped from 0.206
    expected = np.array([0.0, 1.0, 2.0, 1.0]) - factors * 0.5
    stepped = one_step("kernel", gradient, kernel, strength=2.0, clip=3.0)
    np.testing.assert_allclose(stepped.ravel(), expected, rtol=1e-6)


def test_a_step_of_consolidating_by_hand():
    # Gradients point so that weights 1 and 3 shrink in size and 2 and 4 grow.
    weights, gradient = [[1.0, 1.0], [-2.0, -2.0]], [[0.5, -0.5], [-0.5, 0.5]]
    shrink = 1 - np.tanh(0.5 * np.array([1.0, 2.0])) ** 2
    expected = [[1 - 0.5 * shrink[0], 1.5], [-2 + 0.5 * shrink[1], -2.5]]
    stepped = one_step("consolidating", gradient, weights, strength=0.5)
    np.testing.assert_allclose(stepped, expected, rtol=1e-6)


def test_a_step_of_pattern_by_hand():
    # Two images, mean squares 0 and 1, B = 2: factors exp(0) and exp(1) over their mean.
    images = np.stack([np.zeros((2, 2, 1)), np.ones((2, 2, 1))]).astype(np.float32)
    factors = np.array([1, np.e]) / ((1 + np.e) / 2)
    optimizer = Metaplastic(keras.optimizers.SGD(1.0), "pattern", strength=2.0)
    weights = keras.ops.convert_to_numpy(optimizer.loss_weights(images))
    np.testing.assert_allclose(weights, factors, rtol=1e-6)

    # A single linear unit: its gradient is the factors' mean of (prediction - target) * x.
    unit = keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(1, use_bias=False)]
    )
    start = np.array([[1.0], [2.0], [3.0], [4.0]], np.float32)
    unit.set_weights([start])
    unit.compile(optimizer, "mse")
    unit.train_on_batch(images, np.zeros((2, 1), np.float32), sample_weight=weights)
    gradient = (factors[1] * 2 * 10.0 * np.ones((4, 1))) / 2  # d/dw of mean_i s_i (w.x_i)^2
    np.testing.assert_allclose(unit.get_weights()[0], start - gradient, rtol=1e-5)


@pytest.mark.parametrize("clip", [1.0, 2.0, 8.0])
def test_factors_have_mean_1_before_the_clip_and_stay_within_it(clip):
    random = np.random.default_rng(1)
    kernel = random.normal(size=(3, 3, 8, 16)).astype(np.float32)
    factors = keras.ops.convert_to_numpy(kernel_factors(kernel, 0.5, clip))
    assert factors.min() >= np.float32(1 / clip)
    assert factors.max() <= clip
    unclipped = keras.ops.convert_to_numpy(kernel_factors(kernel, 0.5, 1e6))
    assert unclipped.mean() == pytest.approx(1, abs=1e-5)


def test_factors_are_finite_whatever_the_weights():
    outlier = np.zeros((3, 3, 64, 64), np.float32)
    outlier[0, 0, 0, 0] = 1e3
    for kernel in (np.zeros((3, 3, 2, 2), np.float32), outlier):
        factors = keras.ops.convert_to_numpy(kernel_factors(kernel, 50.0, 4.0))
        assert np.isfinite(factors).all()
    assert (keras.ops.convert_to_numpy(kernel_factors(np.zeros((3, 3, 2, 2)), 1.0, 4.0)) == 1).all()


@pytest.mark.parametrize("size", [1e-10, 1e10, 1e16, 1e20, 1e30])
@pytest.mark.parametrize("strength", [0.5, 1e6])
def test_the_factors_of_a_kernel_are_the_same_at_any_size(size, strength):
    kernel = np.random.default_rng(1).normal(size=(3, 3, 4, 4)).astype(np.float32)
    expected = keras.ops.convert_to_numpy(kernel_factors(kernel, strength, 4.0))
    found = keras.ops.convert_to_numpy(kernel_factors(kernel * np.float32(size), strength, 4.0))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=1e-5 if strength == 0.5 else 0.5)


@pytest.mark.parametrize("strength", [0.5, 1e6])
@pytest.mark.parametrize("rule", ["kernel", "consolidating"])
def test_a_step_from_huge_weights_is_finite(rule, strength):
    start = np.full((2, 2, 1, 1), 1e20, np.float32)
    found = one_step(rule, np.full((2, 2, 1, 1), 1e19, np.float32), start, strength=strength)
    expected = start if rule == "consolidating" else start - np.float32(1e19)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("strength", [0.5, 1e6])
def test_pattern_factors_are_finite_whatever_the_images(strength):
    sizes = np.array([0, 1, 1e10, 1e20, 3e38], np.float32).reshape(5, 1)
    factors = keras.ops.convert_to_numpy(pattern_factors(np.ones((5, 7)) * sizes, strength, 4.0))
    assert np.isfinite(factors).all()
    assert (np.diff(factors) >= 0).all()


def test_pattern_factors_of_no_images_are_none():
    factors = keras.ops.convert_to_numpy(pattern_factors(np.zeros((0, 4, 4, 1)), 1.0, 4.0))
    assert factors.shape == (0,)
    assert factors.dtype == np.float32


def usual_factors(kernel, strength, clip):
    """The equation as it stands, without care for sizes that a float32 cannot square."""
    squared = keras.ops.square(keras.ops.convert_to_tensor(kernel))
    logs = strength / 2 * squared / keras.ops.mean(squared)
    log_mean = keras.ops.logsumexp(logs) - math.log(kernel.size)
    return keras.ops.clip(keras.ops.exp(logs - log_mean), 1 / clip, clip)


@pytest.mark.parametrize("shape", [(3, 3, 8, 16), (1, 1, 3, 5), (5, 7, 2)])
def test_care_for_huge_kernels_changes_no_bit_of_the_usual_ones(shape):
    kernel = np.random.default_rng(7).normal(scale=0.05, size=shape).astype(np.float32)
    found = keras.ops.convert_to_numpy(kernel_factors(kernel, 0.7, 4.0))
    np.testing.assert_array_equal(
        found, keras.ops.convert_to_numpy(usual_factors(kernel, 0.7, 4.0))
    )


def test_pattern_factors_do_not_overflow_where_the_papers_formula_does():
    images = np.ones((4, 28, 28, 1), np.float32) * np.array([0, 0.5, 1, 255]).reshape(4, 1, 1, 1)
    factors = keras.ops.convert_to_numpy(pattern_factors(images.astype(np.float32), 3.0, 5.0))
    assert np.isfinite(factors).all()
    assert (np.diff(factors) >= 0).all()


def test_a_large_weight_is_consolidated_more_than_a_small_one():
    factors = keras.ops.convert_to_numpy(
        consolidating_factors(np.array([0.0, 0.1, -1.0, 3.0]), 1.0)
    )
    assert factors[0] == 1
    assert (np.diff(factors) < 0).all()
    assert (factors > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="PyTorch's compiler takes minutes for these steps"
)
def test_it_trains_inside_jit_compile_as_outside(rule):
    images, labels = made_data()
    weights = {}
    for jit_compile in (False, True):
        optimizer = Metaplastic(keras.optimizers.SGD(0.1, momentum=0.9), rule, strength=1.0)
        network = compiled(optimizer, jit_compile)
        weigh = optimizer.loss_weights or (lambda images: np.ones(len(images)))
        factors = keras.ops.convert_to_numpy(weigh(images))
        network.fit(
            images, labels, sample_weight=factors, epochs=3, batch_size=8, verbose=0, shuffle=False
        )
        weights[jit_compile] = network.get_weights()
    for plain, compiled_weights in zip(weights[False], weights[True], strict=True):
        np.testing.assert_allclose(compiled_weights, plain, rtol=2e-4, atol=2e-5)


def test_a_learning_rate_schedule_reaches_the_base_optimizer():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([3], [1.0, 0.0])
    optimizer = Metaplastic(keras.optimizers.SGD(schedule), "kernel", strength=1.0)
    variable = keras.Variable(np.ones((2, 2, 1, 1), np.float32), name="kernel")
    seen = []
    for _ in range(6):
        optimizer.apply([keras.ops.ones((2, 2, 1, 1))], [variable])
        seen.append(float(keras.ops.convert_to_numpy(variable).sum()))
    assert len(set(seen[:4])) == 4
    assert seen[3:] == [seen[3]] * 3
    assert int(optimizer.iterations) == 6
    assert float(keras.ops.convert_to_numpy(optimizer.learning_rate)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("base", ["nesterov", "adam"])
def test_a_saved_network_goes_on_as_if_it_had_not_been_saved(tmp_path, rule, base):
    images, labels = made_data()

    def fit(network):
        network.fit(images, labels, epochs=2, batch_size=8, shuffle=False, verbose=0)

    straight = compiled(Metaplastic(BASES[base](), rule, strength=0.7, clip=3.0))
    fit(straight)
    straight.save(tmp_path / "half.keras")
    fit(straight)
    resumed = keras.saving.load_model(tmp_path / "half.keras")
    assert isinstance(resumed.optimizer, Metaplastic)
    assert (resumed.optimizer.rule, resumed.optimizer.strength) == (rule, 0.7)
    assert int(resumed.optimizer.iterations) == 8
    fit(resumed)
    for expected, found in zip(straight.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("base", BASES)
def test_its_configuration_makes_the_same_optimizer_again(base):
    optimizer = Metaplastic(BASES[base](), "consolidating", strength=0.3, clip=2.0)
    again = Metaplastic.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()


def test_a_constraint_holds_after_the_scaled_step():
    limit = keras.constraints.MaxNorm(1.0, axis=[0, 1, 2, 3])
    layer = keras.layers.Conv2D(1, 2, kernel_constraint=limit)
    layer.build((None, 4, 4, 1))
    optimizer = Metaplastic(keras.optimizers.SGD(10.0), "kernel", strength=2.0)
    gradient = keras.ops.convert_to_tensor(
        np.array([1.0, -2.0, 3.0, 0.5], np.float32).reshape(2, 2, 1, 1)
    )
    optimizer.apply([gradient], [layer.kernel])
    assert np.linalg.norm(keras.ops.convert_to_numpy(layer.kernel)) <= 1 + 1e-5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "hebb"}, "rule: expected one of pattern, kernel, consolidating, found 'hebb'"),
        ({"strength": -1}, "strength: expected a number of 0 or more, found -1"),
        ({"strength": float("nan")}, "strength: expected a number of 0 or more, found nan"),
        ({"strength": "much"}, "strength: expected a number of 0 or more, found 'much'"),
        ({"clip": 0.5}, "clip: expected a number of 1 or more, found 0.5"),
        ({"strength": True}, "strength: expected a number of 0 or more, found True"),
        ({"strength": 1e300}, r"strength: expected a number up to 1000000, found 1e\+300"),
        ({"strength": 10**400}, "strength: expected a number up to 1000000, found 1000"),
        ({"clip": 1e39}, r"clip: expected a number up to 1000000, found 1e\+39"),
        ({"clip": float("inf")}, "clip: expected a number up to 1000000, found inf"),
    ],
)
def test_bad_constants_are_refused_with_what_was_expected(arguments, message):
    with pytest.raises(ValueError, match=message):
        Metaplastic(keras.optimizers.SGD(0.1), **arguments)


def test_a_base_that_is_no_optimizer_is_refused():
    with pytest.raises(ValueError, match=r"base: expected a keras\.optimizers\.Optimizer"):
        Metaplastic("sgd")


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("rule", ["kernel", "consolidating"])
def test_a_base_that_averages_the_weights_is_refused_where_steps_are_scaled(rule, inside):
    base = keras.optimizers.SGD(0.1, use_ema=True)
    if inside:
        base = keras.optimizers.LossScaleOptimizer(base)
    with pytest.raises(ValueError, match="use_ema=False"):
        Metaplastic(base, rule)
    assert Metaplastic(base, rule, strength=0).base is base
    assert Metaplastic(base, "pattern").base is base


def test_averages_that_are_asked_for_later_are_refused_too():
    optimizer = Metaplastic(keras.optimizers.SGD(0.1))
    optimizer.use_ema = True
    with pytest.raises(ValueError, match="use_ema=False"):
        optimizer.build([keras.Variable(np.ones((2, 2)), name="kernel")])


@pytest.mark.parametrize("number", [np.float32(0.5), np.float16(0.5), np.int64(1)])
def test_a_numpy_scalar_is_a_number(number):
    optimizer = Metaplastic(keras.optimizers.SGD(0.1), strength=number, clip=number + 1)
    assert type(optimizer.strength) is type(optimizer.clip) is float
    assert (optimizer.strength, optimizer.clip) == (float(number), float(number) + 1)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("rule", ["kernel", "consolidating"])
@pytest.mark.parametrize("value", [0.0, 1e-4, 200.0])
def test_no_dtype_makes_a_step_of_no_number(rule, dtype, value):
    layer = keras.layers.Conv2D(4, 3, dtype=dtype)
    layer.build((None, 8, 8, 1))
    layer.kernel.assign(np.full((3, 3, 1, 4), value))
    optimizer = Metaplastic(keras.optimizers.SGD(0.5), rule)
    optimizer.apply([keras.ops.ones((3, 3, 1, 4), dtype)], [layer.kernel])
    found = keras.ops.convert_to_numpy(keras.ops.cast(layer.kernel, "float32"))
    # Equal weights have the factor 1; of consolidating, a large one hardly shrinks.
    expected = value if rule == "consolidating" and value > 1 else value - 0.5
    np.testing.assert_allclose(found, expected, atol=0.01 * max(value, 0.1))
    assert layer.kernel.dtype == dtype


@pytest.fixture
def mixed_float16():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


def fit_with_loss_scale(optimizer):
    """The weights after three epochs of a small network, and those of its optimizer."""
    keras.utils.set_random_seed(3)
    layers = [
        *(keras.Input((6, 6, 1)), keras.layers.Conv2D(4, 3), keras.layers.Flatten()),
        keras.layers.Dense(3, dtype="float32"),
    ]
    network = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(optimizer, loss, auto_scale_loss=False)
    images, labels = made_data()
    network.fit(images, labels, epochs=3, batch_size=8, verbose=0, shuffle=False)
    return network.get_weights()


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["kernel", "consolidating"])
def test_a_loss_scale_inside_and_outside_trains_alike(mixed_float16, rule):
    def scale(base):
        return keras.optimizers.LossScaleOptimizer(base, dynamic_growth_steps=4)

    inside = fit_with_loss_scale(Metaplastic(scale(keras.optimizers.Adam(0.01)), rule))
    outside = fit_with_loss_scale(scale(Metaplastic(keras.optimizers.Adam(0.01), rule)))
    plain = fit_with_loss_scale(scale(keras.optimizers.Adam(0.01)))
    none = fit_with_loss_scale(Metaplastic(scale(keras.optimizers.Adam(0.01)), rule, strength=0))
    for one, other, base, unscaled in zip(inside, outside, plain, none, strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(unscaled, base)
    assert (inside[0] != plain[0]).any()


def test_a_step_that_the_loss_scale_leaves_out_changes_no_weight(mixed_float16):
    images, labels = made_data(8)
    base = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0**15)
    network = small_network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(Metaplastic(base, "kernel"), loss, auto_scale_loss=False)
    before = network.get_layer("conv").get_weights()
    network.train_on_batch(np.full_like(images, np.nan), labels)
    for found, expected in zip(network.get_layer("conv").get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert float(keras.ops.convert_to_numpy(base.dynamic_scale)) == 2.0**14


def conv_kernel(**settings):
    keras.utils.set_random_seed(5)
    layer = keras.layers.Conv2D(4, 3, use_bias=False, **settings)
    layer.build((None, 8, 8, 1))
    return layer


def test_accumulated_gradients_are_one_scaled_step():
    layers = [conv_kernel(), conv_kernel()]
    random = np.random.default_rng(6)
    first, second = random.normal(size=(2, 3, 3, 1, 4)).astype(np.float32)
    once = Metaplastic(keras.optimizers.SGD(0.1), "kernel")
    twice = Metaplastic(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2), "kernel")
    once.apply([keras.ops.convert_to_tensor((first + second) / 2)], [layers[0].kernel])
    for gradient in (first, second):
        twice.apply([keras.ops.convert_to_tensor(gradient)], [layers[1].kernel])
    one, other = (keras.ops.convert_to_numpy(layer.kernel) for layer in layers)
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_two_gradients_for_one_kernel_are_scaled_once():
    layers = [conv_kernel(), conv_kernel()]
    gradient = keras.ops.ones((3, 3, 1, 4))
    once = Metaplastic(keras.optimizers.SGD(0.2), "kernel")
    twice = Metaplastic(keras.optimizers.SGD(0.1), "kernel")
    once.apply([gradient], [layers[0].kernel])
    twice.apply([gradient] * 2, [layers[1].kernel] * 2)
    one, other = (keras.ops.convert_to_numpy(layer.kernel) for layer in layers)
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_constraint_does_not_act_on_a_kernel_without_gradient():
    moving, resting = conv_kernel(), conv_kernel(kernel_constraint="non_neg")
    resting.kernel.assign(-np.ones((3, 3, 1, 4)))
    optimizer = Metaplastic(keras.optimizers.SGD(0.1), "kernel")
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([keras.ops.ones((3, 3, 1, 4)), None], [moving.kernel, resting.kernel])
    assert (keras.ops.convert_to_numpy(resting.kernel) == -1).all()


def test_more_gradients_than_variables_are_refused():
    kernel = conv_kernel().kernel
    optimizer = Metaplastic(keras.optimizers.SGD(0.1), "kernel")
    with pytest.raises(ValueError, match="one for each of the 1 variables, found 2"):
        optimizer.apply([keras.ops.ones((3, 3, 1, 4))] * 2, [kernel])


def test_an_optimizer_that_has_trained_goes_on_inside_a_wrapper():
    kernel = conv_kernel().kernel
    base = keras.optimizers.Adam(0.1)
    base.apply([keras.ops.ones((3, 3, 1, 4))], [kernel])
    optimizer = Metaplastic(base, "kernel", strength=2.0)
    start = keras.ops.convert_to_numpy(kernel).copy()
    optimizer.apply([keras.ops.ones((3, 3, 1, 4))], [kernel])
    steps = keras.ops.convert_to_numpy(kernel) - start
    assert int(optimizer.iterations) == 2
    assert steps.std() > 0.01  # Adam's own steps on equal gradients are equal
