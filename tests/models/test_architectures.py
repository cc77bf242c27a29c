"""Networks: their sizes are those of their docstrings, and what they take is what cards promise."""

import inspect
import json
import math
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from models import architectures
from models.architectures import ARCHITECTURES, build
from models.architectures.blocks import locally_connected
from models.architectures.multiply_adds import multiply_adds
from models.architectures.registry import register
from models.cards import KERAS_MODEL, find_models
from models.data.datasets import DATASETS
from models.training.build import build_network
from models.training.recipes import recipe_from
from models.training.runs import Run

ZOO = ("alexnet", "googlenet", "lenet", "vgg")  # ours; the others have the sizes of a paper
SHAPES = {"28x28x1": (28, 28, 1), "32x32x3": (32, 32, 3)}


def built(architecture, shape, **options):
    channels = shape[-1]
    return build(architecture, shape, 10, (0.5,) * channels, (0.25,) * channels, **options)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parameters_and_multiply_adds_are_those_of_the_docstring(architecture, shape):
    network = built(architecture, SHAPES[shape])
    documented = inspect.getdoc(ARCHITECTURES[architecture]).splitlines()
    line = next(line for line in documented if line.strip().startswith(shape))
    numbers = [
        int(word.replace(",", "")) for word in line.split() if word[0].isdigit() and "x" not in word
    ]
    assert numbers == [network.count_params(), multiply_adds(network)]


@pytest.mark.parametrize("architecture", ZOO)
def test_a_network_of_the_zoo_is_small_enough_to_serve_on_a_cpu(architecture):
    network = built(architecture, (32, 32, 3))
    assert network.count_params() <= 1_500_000
    assert multiply_adds(network) <= 100_000_000


@pytest.mark.parametrize("shape", SHAPES.values())
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_network_answers_float32_logits_for_any_number_of_images(architecture, shape):
    network = built(architecture, shape)
    logits = network.predict(np.zeros((3, *shape), np.float32), verbose=0)
    assert (logits.shape, logits.dtype) == ((3, 10), np.float32)
    assert not np.allclose(logits.sum(axis=1), 1)  # no softmax


def test_the_data_sets_normalisation_is_inside_the_network():
    data = DATASETS["cifar10"].input
    network = build("lenet", (32, 32, 3), 10, data.mean, data.std)
    normalise = keras.Model(network.input, network.get_layer("normalisation").output)
    images = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)
    expected = (images - np.array(data.mean)) / np.array(data.std)
    np.testing.assert_allclose(normalise.predict(images, verbose=0), expected, atol=1e-5)


@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
def test_vgg_has_two_convolutions_in_each_block_each_block_twice_as_wide(blocks):
    network = built("vgg", (32, 32, 3), blocks=blocks, width=8)
    widths = [layer.filters for layer in convolutions(network)]
    assert widths == [8 * 2**block for block in range(blocks) for _ in range(2)]


CLASSIC = {
    "width": 8,
    "dense": 16,
    "whiten": False,
    "early_pool": False,
    "batch_norm": False,
    "logit_scale": 1.0,
}


@pytest.mark.parametrize(
    ("switch", "batch_norms", "dropped", "penalised"),
    [
        ({}, 0, 0, 0),
        ({"batch_norm": True}, 4, 0, 0),
        ({"dropout": 0.2}, 0, 3, 0),
        ({"l2": 1e-3}, 0, 0, 5),
    ],
)
def test_each_regulariser_of_the_classic_study_can_be_had_alone(
    switch, batch_norms, dropped, penalised
):
    network = built("vgg", (32, 32, 3), blocks=2, **{**CLASSIC, **switch})
    kinds = [type(layer) for layer in network.layers]
    assert kinds.count(keras.layers.BatchNormalization) == batch_norms
    assert sum(getattr(layer, "rate", 0) > 0 for layer in network.layers) == dropped
    assert len(network.losses) == penalised
    assert keras.layers.Flatten in kinds


def test_lenet_can_be_had_without_batch_normalisation():
    network = built("lenet", (28, 28, 1), batch_norm=False)
    kinds = [type(layer) for layer in network.layers]
    assert keras.layers.BatchNormalization not in kinds
    assert all(layer.use_bias for layer in convolutions(network))


def test_vgg_without_a_block_is_refused():
    with pytest.raises(ValueError, match="blocks: expected 1 or more, found 0"):
        built("vgg", (32, 32, 3), blocks=0)


def test_googlenet_joins_four_branches_of_four_kinds():
    network = built("googlenet", (32, 32, 3))
    joins = [layer for layer in network.layers if isinstance(layer, keras.layers.Concatenate)]
    assert len(joins) == 5
    assert [len(join.input) for join in joins] == [4] * 5
    sizes = [layer.kernel_size[0] for layer in convolutions(network)]
    assert [sizes.count(size) for size in (1, 3, 5)] == [20, 6, 5]


@pytest.mark.parametrize("width", [0.125, 0.5, 0.75, 1.0])
def test_googlenets_maps_come_in_sixteens_as_processors_multiply_them(width):
    network = built("googlenet", (32, 32, 3), width=width)
    assert {layer.filters % 16 for layer in convolutions(network)} == {0}


MNIST, CIFAR, TINY_IMAGENET = (28, 28, 1), (32, 32, 3), (64, 64, 3)


@pytest.mark.parametrize(
    ("architecture", "shape", "classes", "trained"),
    [
        ("dense", MNIST, 10, 3_181_000),
        ("conv", MNIST, 10, 3_150_632),
        ("conv", CIFAR, 10, 4_111_208),
        ("conv", CIFAR, 100, 4_156_208),
        ("loccon", MNIST, 10, 3_830_920),
        ("loccon", CIFAR, 10, 5_725_064),
        ("loccon", CIFAR, 100, 5_770_064),
        ("deep", CIFAR, 10, 1_732_680),
        ("deep", CIFAR, 100, 1_777_680),
        ("deep", TINY_IMAGENET, 200, 4_899_680),
    ],
)
def test_the_brainprop_networks_are_as_large_as_the_papers(architecture, shape, classes, trained):
    channels = shape[-1]
    network = build(architecture, shape, classes, (0.0,) * channels, (1.0,) * channels)
    assert sum(math.prod(weight.shape) for weight in network.trainable_weights) == trained
    assert not any(weight.name == "bias" for weight in network.weights)


@pytest.mark.parametrize(
    ("architecture", "std", "rates", "penalised"),
    [
        ("dense", 0.01, [], 0),
        ("conv", 0.005, [0.3, 0.3], 0),
        ("loccon", 0.005, [0.3, 0.3], 0),
        ("deep", 0.005, [0.3, 0.3, 0.8, 0.3], 9),
    ],
)
def test_the_brainprop_networks_start_and_drop_as_the_papers(architecture, std, rates, penalised):
    network = built(architecture, MNIST)
    kernels = [weight for weight in network.weights if weight.name == "kernel"]
    values = np.concatenate([keras.ops.convert_to_numpy(kernel).ravel() for kernel in kernels])
    assert values.std() == pytest.approx(std, rel=0.01)
    assert [layer.rate for layer in network.layers if hasattr(layer, "rate")] == rates
    assert len(network.losses) == penalised
    first, second = (keras.ops.convert_to_numpy(kernel).ravel()[:90] for kernel in kernels[:2])
    assert (first != second).all()


def test_a_builder_of_two_words_is_known_by_a_name_that_can_stand_in_a_url(monkeypatch):
    monkeypatch.setattr("models.architectures.registry.ARCHITECTURES", known := {})

    @register
    def wide_lenet(*shape, **settings):
        return None

    assert list(known) == ["wide-lenet"]


@pytest.mark.parametrize("architecture", ["conv", "loccon", "deep"])
def test_in_the_brainprop_networks_normalisation_stands_behind_the_relu(architecture):
    kinds = [type(layer) for layer in built(architecture, MNIST).layers]
    for place, kind in enumerate(kinds):
        if kind is keras.layers.BatchNormalization:
            before = kinds[place - 2 : place]
            assert before[1] is keras.layers.ReLU
            assert before[0] in (keras.layers.Conv2D, keras.layers.EinsumDense)


def convolutions(network):
    """The convolutions that learn."""
    kind = keras.layers.Conv2D
    return [layer for layer in network.layers if isinstance(layer, kind) and layer.trainable]


def test_multiply_adds_of_a_network_by_hand():
    network = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(5, 3, strides=2, padding="same"),
            keras.layers.Flatten(),
            keras.layers.Dense(7),
        ]
    )
    assert multiply_adds(network) == 4 * 4 * 5 * 3 * 3 * 3 + 4 * 4 * 5 * 7


def test_each_weight_of_a_locally_connected_layer_is_used_once():
    image = keras.Input((8, 8, 3))
    network = keras.Model(image, locally_connected(image, 5, 3, strides=2))
    assert multiply_adds(network) == 3 * 3 * (3 * 3 * 3) * 5


def test_a_layer_that_cannot_be_counted_is_an_error_and_not_a_zero():
    network = keras.Sequential([keras.Input((8, 3)), keras.layers.Conv1D(5, 3)])
    with pytest.raises(ValueError, match="cannot count the multiply-adds"):
        multiply_adds(network)


def test_an_unknown_architecture_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match=r"no architecture is called 'resnet'; there are:.*lenet"):
        architectures.build("resnet", (28, 28, 1), 10, (0.5,), (0.5,))


PUBLISHED = [
    pytest.param(folder, card, id=f"{card.name}-{card.version}")
    for folder, card in find_models(Path(__file__).parents[2] / "weights")
]


@pytest.mark.parametrize(("folder", "card"), PUBLISHED)
def test_a_published_network_is_the_one_that_its_recipe_builds_today(folder, card):
    recipe = recipe_from(card.training.recipe)
    run = Run(folder, card.dataset, card.architecture, card.rule, recipe, command="")
    with zipfile.ZipFile(folder / KERAS_MODEL) as file:
        stored = json.loads(file.read("config.json"))
    today = json.loads(json.dumps(keras.saving.serialize_keras_object(build_network(run))))
    assert layers_of(stored) == layers_of(today)


def layers_of(network):
    """Kind and settings of each layer, inside flip averaging too; names are counted anew."""
    layers = network["config"]["layers"]
    for layer in layers:
        if layer["class_name"] == "Functional":
            return layers_of(layer)
    ignored = ("name", "seed", "dtype")
    return [
        (layer["class_name"], {k: v for k, v in layer["config"].items() if k not in ignored})
        for layer in layers
    ]
