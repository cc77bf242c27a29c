"""recipes.toml: every entry can be followed, and a wrong one is refused."""

import pytest

from models.architectures import ARCHITECTURES
from models.data.datasets import DATASETS
from models.training.recipes import (
    RecipeError,
    recipe_for,
    recipe_from,
    recipe_names,
    trained_rules,
)


@pytest.mark.parametrize(("dataset", "architecture", "preset"), recipe_names())
def test_each_recipe_is_for_a_known_network_and_has_a_baseline(dataset, architecture, preset):
    assert dataset in DATASETS
    assert architecture in ARCHITECTURES
    # What train-all leaves out is trained by hand.
    rule, control = trained_rules(dataset, architecture, preset) or ("brainprop", "backprop")
    assert control == "backprop"
    ours = recipe_for(dataset, architecture, rule, {"preset": preset}).as_dict()
    plain = recipe_for(dataset, architecture, control, {"preset": preset}).as_dict()
    assert ours["preset"] == preset
    assert ours.pop("constants")
    assert plain.pop("constants") == {}
    assert ours == plain


def test_a_recipe_survives_the_card():
    recipe = recipe_for("mnist", "lenet", "metaplastic", {"network.dropout": 0.1})
    assert recipe_from(recipe.as_dict()) == recipe


def test_a_dot_reaches_into_a_table():
    overrides = {"metaplastic.strength": 2, "network.dropout": 0.5, "learning_rate": 1}
    recipe = recipe_for("mnist", "lenet", "metaplastic", overrides)
    assert (recipe.constants["strength"], recipe.learning_rate) == (2, 1.0)
    assert recipe.network["dropout"] == 0.5


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"seed": -1}, "seed: expected 0 or more, found -1"),
        ({"epochs": 1.5}, "epochs: expected int, found 1.5"),
        (
            {"schedule": "steps"},
            "schedule: expected one of cosine, constant, halving, found 'steps'",
        ),
        ({"schedule": "halving"}, "warmup: expected 0 with the schedule halving, found 0.1"),
        ({"halve_every": 0}, "halve_every: expected 1 or more, found 0"),
        ({"patience": -1}, "patience: expected 0 or more, found -1"),
        ({"rules": ["backprop"]}, "unknown settings rules"),
        ({"augment.sepia": 1}, "augment: expected warp, rotate, shift, flip, cutout, brightness"),
        ({"average": -1}, "average: expected 0 or more, found -1"),
        ({"floor": 2}, "floor: expected from 0 to 1, found 2"),
        ({"teachers": "a/run"}, "teachers: expected a list, found 'a/run'"),
        ({"teacher_weight": 1.5}, "teacher_weight: expected from 0 to 1, found 1.5"),
        ({"teacher_temperature": 0}, "teacher_temperature: expected above 0, found 0"),
        ({"rythm": 1}, "unknown settings rythm"),
        ({"preset": "fast"}, "mnist lenet has no preset 'fast'; it has: sent"),
        ({"preset": 3}, "mnist lenet has no preset 3; it has: sent"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_was_expected(overrides, message):
    with pytest.raises(RecipeError) as refused:
        recipe_for("mnist", "lenet", "metaplastic", overrides)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"network.droput": 0.2}, "lenet has no option droput; it has: kernels, dense, dropout"),
        ({"metaplastic.strength": -1}, "strength: expected a number of 0 or more, found -1"),
        ({"metaplastic.speed": 1}, "unexpected keyword argument 'speed'"),
    ],
)
def test_what_the_network_or_the_rule_does_not_take_is_refused(override, message):
    with pytest.raises(RecipeError) as refused:
        recipe_for("mnist", "lenet", "metaplastic", override)
    assert message in str(refused.value)


def test_an_unknown_rule_is_refused():
    with pytest.raises(
        RecipeError, match="rule: expected metaplastic or brainprop or backprop, found 'hebb'"
    ):
        recipe_for("mnist", "lenet", "hebb")


def test_reward_learning_with_metaplastic_synapses_is_one_setting():
    synapses = {"rule": "consolidating", "strength": 3}
    recipe = recipe_for("mnist", "conv", "brainprop", {"brainprop.metaplastic": synapses})
    assert recipe.constants == {"epsilon": 0.02, "metaplastic": synapses}
    with pytest.raises(RecipeError, match="strength: expected a number of 0 or more, found -1"):
        recipe_for("mnist", "conv", "brainprop", {"brainprop.metaplastic": {"strength": -1}})
    with pytest.raises(RecipeError, match="epsilon: expected a share from 0 to 1, found 2"):
        recipe_for("mnist", "conv", "brainprop", {"brainprop.epsilon": 2})


def test_a_preset_stands_between_the_recipe_and_what_is_set_by_hand():
    paper = recipe_for("cifar10", "deep", "brainprop")
    fast = recipe_for("cifar10", "deep", "brainprop", {"preset": "fast"})
    shorter = recipe_for("cifar10", "deep", "brainprop", {"preset": "fast", "epochs": 3})
    assert (paper.preset, paper.epochs, paper.patience) == ("", 500, 45)
    assert (fast.preset, fast.patience) == ("fast", 0)
    assert fast.epochs < 105  # the paper's
    assert (shorter.preset, shorter.epochs) == ("fast", 3)
    assert shorter.network == fast.network
    assert recipe_from(fast.as_dict()) == fast
    with pytest.raises(RecipeError, match="cifar10 deep has no preset 'slow'; it has: fast"):
        recipe_for("cifar10", "deep", "brainprop", {"preset": "slow"})


def test_the_former_name_of_a_setting_is_understood():
    settings = recipe_for("cifar10", "lenet", "metaplastic").as_dict()
    settings["mirror"] = settings.pop("flip_average")
    assert recipe_from(settings) == recipe_for("cifar10", "lenet", "metaplastic")
    assert not recipe_for("cifar10", "lenet", "metaplastic", {"mirror": False}).flip_average


def test_a_card_from_before_there_were_presets_is_of_the_recipe_itself():
    settings = recipe_for("mnist", "lenet", "metaplastic").as_dict()
    del settings["preset"]
    assert recipe_from(settings) == recipe_for("mnist", "lenet", "metaplastic")


@pytest.mark.parametrize(
    ("dataset", "architecture"),
    [("mnist", "dense"), ("mnist", "conv")]
    + [(dataset, "loccon") for dataset in ("mnist", "cifar10", "cifar100")]
    + [(dataset, "deep") for dataset in ("cifar10", "cifar100", "tiny-imagenet")],
)
def test_the_brainprop_recipes_are_the_papers_settings(dataset, architecture):
    recipe = recipe_for(dataset, architecture, "brainprop")
    assert (recipe.optimizer, recipe.learning_rate, recipe.momentum) == ("sgd", 0.1, 0)
    assert (recipe.schedule, recipe.halve_every) == ("halving", 100)
    assert (recipe.epochs, recipe.patience) == (500, 45)
    assert recipe.batch_size == (32 if architecture == "loccon" else 128)
    assert (recipe.weight_decay, recipe.augment, recipe.normalise) == (0, {}, False)
    assert recipe.network == {}
    assert recipe.constants == {"epsilon": 0.02}
