"""recipes.toml: every entry can be followed, and a wrong one is refused."""

import tomllib

import pytest

from models.architectures import ARCHITECTURES
from models.datasets import DATASETS
from models.recipes import RECIPES, RecipeError, recipe_for, recipe_from

PUBLISHED = [
    (dataset, architecture)
    for dataset, entries in tomllib.loads(RECIPES.read_text()).items()
    if dataset != "defaults"
    for architecture in entries
]


@pytest.mark.parametrize(("dataset", "architecture"), PUBLISHED)
def test_each_recipe_is_for_a_known_network_and_has_a_plain_twin(dataset, architecture):
    assert dataset in DATASETS
    assert architecture in ARCHITECTURES
    metaplastic = recipe_for(dataset, architecture, "metaplastic").as_dict()
    plain = recipe_for(dataset, architecture, "backprop").as_dict()
    assert metaplastic.pop("constants")
    assert plain.pop("constants") == {}
    assert metaplastic == plain


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
        ({"schedule": "steps"}, "schedule: expected one of cosine, constant, found 'steps'"),
        ({"augment.blur": 1}, "augment: expected warp, shift, flip, cutout, found 'blur'"),
        ({"rythm": 1}, "unknown settings rythm"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_was_expected(overrides, message):
    with pytest.raises(RecipeError) as refused:
        recipe_for("mnist", "lenet", "metaplastic", overrides)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"network.droput": 0.2}, "lenet has no knob droput; it has: kernels, dense, dropout"),
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
