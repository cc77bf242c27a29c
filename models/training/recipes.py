"""Recipes: the hyperparameters of each training, read from `recipes.toml`, merged and checked."""

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from models.data.augmentation import AUGMENTATIONS, MIXTURES
from models.errors import MetaplasticError
from models.parsing import ParseError, parse

RECIPES = Path(__file__).with_name("recipes.toml")
_FORMER_NAMES = {"mirror": "flip_average"}  # in cards, run folders and commands of earlier versions


class RecipeError(MetaplasticError):
    """A recipe that cannot be followed. The message names the setting and what was expected."""


@dataclass(frozen=True)
class Recipe:
    """Every hyperparameter of one training."""

    epochs: int
    batch_size: int
    validation: float  # share of the training set that is held out; every choice is made on it
    seed: int
    optimizer: Literal["sgd", "adam"]
    learning_rate: float  # the highest one, after the warm-up
    warmup: float  # share of all steps in which the learning rate rises from 0
    schedule: Literal["cosine", "constant", "halving"]
    weight_decay: float  # decoupled, for kernels only: adam with it is AdamW
    label_smoothing: float  # of the cross-entropy; rewards are never smoothed
    preset: str = ""  # name of the preset in recipes.toml; "" is the network's own recipe
    momentum: float = 0.9  # of sgd, in Nesterov's form
    halve_every: int = 100  # epochs at each learning rate of the schedule "halving"
    patience: int = 0  # early stopping after so many epochs in a row without a gain; 0: never
    normalise: bool = True  # by the data set's mean and deviation; False: images stay in 0..1
    # The share of the moving averages of batch normalisation that remains after each step. With
    # 0.99 they need about 500 steps to forget their initial values.
    batch_norm_momentum: float = 0.99
    precision: Literal["float32", "mixed_bfloat16"] = "float32"  # of the arithmetic in training
    flip_average: bool = False  # average the logits of an image and its mirror image when serving
    network: Mapping[str, Any] = field(default_factory=dict)  # options of the architecture
    augment: Mapping[str, float] = field(default_factory=dict)  # name -> strength, in this order
    constants: Mapping[str, Any] = field(default_factory=dict)  # of the learning rule
    floor: float = 0.0  # the schedule "cosine" ends at this share of learning_rate
    average: int = 0  # final weights: the mean over the ends of the last epochs; 0: no averaging
    teachers: tuple[str, ...] = ()  # folders of runs or published models (distillation.py)
    teacher_weight: float = 0.7  # share of the teachers' soft labels in the loss
    teacher_temperature: float = 2.0  # of the softmax of both teachers and network

    def __post_init__(self) -> None:
        """Raise RecipeError for a value out of range, before any time is spent on training."""
        _require("epochs", self.epochs, self.epochs >= 1, "1 or more")
        _require("batch_size", self.batch_size, self.batch_size >= 1, "1 or more")
        _require("validation", self.validation, 0 < self.validation < 1, "between 0 and 1")
        _require("seed", self.seed, self.seed >= 0, "0 or more")
        _require("learning_rate", self.learning_rate, self.learning_rate > 0, "above 0")
        _require("warmup", self.warmup, 0 <= self.warmup < 1, "from 0 to below 1")
        halving, warm = self.schedule == "halving", self.warmup > 0
        _require("warmup", self.warmup, not (halving and warm), "0 with the schedule halving")
        _require("halve_every", self.halve_every, self.halve_every >= 1, "1 or more")
        _require("patience", self.patience, self.patience >= 0, "0 or more")
        _require("momentum", self.momentum, 0 <= self.momentum < 1, "from 0 to below 1")
        kept = self.batch_norm_momentum
        _require("batch_norm_momentum", kept, 0 <= kept < 1, "from 0 to below 1")
        _require("weight_decay", self.weight_decay, self.weight_decay >= 0, "0 or more")
        smoothing = self.label_smoothing
        _require("label_smoothing", smoothing, 0 <= smoothing < 1, "from 0 to below 1")
        _require("floor", self.floor, 0 <= self.floor <= 1, "from 0 to 1")
        _require("average", self.average, self.average >= 0, "0 or more")
        weight, temperature = self.teacher_weight, self.teacher_temperature
        _require("teacher_weight", weight, 0 <= weight <= 1, "from 0 to 1")
        _require("teacher_temperature", temperature, temperature > 0, "above 0")
        known = (*AUGMENTATIONS, *MIXTURES)
        for name in self.augment:
            _require("augment", name, name in known, ", ".join(known))

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values. `recipe_from` reads them back."""
        settings: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return settings


def recipe_for(
    dataset: str, architecture: str, rule: str, overrides: Mapping[str, Any] | None = None
) -> Recipe:
    """Return the recipe of (dataset, architecture, rule), changed by `overrides`.

    Later sources win: [defaults], then [<dataset>.<architecture>], then the preset that `overrides`
    names as `preset`, then the other `overrides`. A dot in a name reaches into a table
    (`network.dropout`). A table named after a learning rule holds the constants of that rule and is
    ignored for other rules, so that a model and its baseline differ in nothing else.

    Raises RecipeError for an unknown rule, recipe, preset or setting, and for a value out of range.
    """
    # Imported here because they import Keras, which `python -m models list` does not need.
    import keras

    from models.architectures import check_options
    from models.plasticity import LEARNING_RULES
    from models.plasticity.learning import Learning

    _require("rule", rule, rule in LEARNING_RULES, " or ".join(LEARNING_RULES))
    overrides = overrides or {}
    settings = _settings(dataset, architecture, overrides.get("preset", ""))
    for name, value in _with_current_names(overrides).items():
        table, _, entry = name.rpartition(".")
        if table:
            settings[table] = {**settings.get(table, {}), entry: value}
        else:
            settings[name] = value
    constants = {name: settings.pop(name, {}) for name in LEARNING_RULES}
    recipe = recipe_from({**settings, "constants": constants[rule]})
    try:
        check_options(architecture, recipe.network)
        learning = LEARNING_RULES[rule](Learning(keras.optimizers.SGD()), **recipe.constants)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{dataset} {architecture} {rule}: {error}") from error
    if learning.outputs != "logits":
        mixed = [name for name in recipe.augment if name in MIXTURES]
        _require(
            "augment", ", ".join(mixed), not mixed, "no mixture: a reward needs images of one class"
        )
        taught = recipe.teachers
        _require("teachers", taught, not taught, "none: this rule learns from rewards alone")
    return recipe


def recipe_names() -> list[tuple[str, str, str]]:
    """Return (data set, architecture, preset) of every recipe, in the order of recipes.toml.

    The network's own recipe has the preset "" and comes before the others.
    """
    return [
        (dataset, architecture, preset)
        for dataset, networks in _tables().items()
        if dataset != "defaults"
        for architecture, settings in networks.items()
        for preset in ("", *settings.get("presets", {}))
    ]


def trained_rules(dataset: str, architecture: str, preset: str) -> tuple[str, ...]:
    """Return the rules that `train-all` trains: those to publish and their baseline."""
    tables = _tables()
    own = tables[dataset][architecture]
    of_preset = own["presets"][preset] if preset else {}
    return tuple({**tables["defaults"], **own, **of_preset}["rules"])


def recipe_from(settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe with these settings, as a card, a run folder or recipes.toml holds them.

    Names from earlier versions are accepted. Raises RecipeError for an unknown setting or a value
    of the wrong type or out of range.
    """
    settings = _with_current_names(settings)
    known = {f.name for f in dataclasses.fields(Recipe)}
    if unknown := sorted(set(settings) - known):
        raise RecipeError(f"unknown settings {', '.join(unknown)}; there are: {', '.join(known)}")
    try:
        return parse(Recipe, settings, "recipe")
    except ParseError as error:
        raise RecipeError(str(error)) from error


def _settings(dataset: str, architecture: str, preset: str) -> dict[str, Any]:
    """Return what recipes.toml says about a network and its preset, merged over [defaults]."""
    tables = _tables()
    if architecture not in tables.get(dataset, {}):
        names = dict.fromkeys(f"{data}.{network}" for data, network, _ in recipe_names())
        raise RecipeError(
            f"{RECIPES.name} has no [{dataset}.{architecture}]: add it to train that network "
            f"(it has {', '.join(names)})"
        )
    own = tables[dataset][architecture]
    presets = {"": {}, **own.get("presets", {})}
    if not isinstance(preset, str) or preset not in presets:
        known = ", ".join(filter(None, presets)) or "none"
        raise RecipeError(f"{dataset} {architecture} has no preset {preset!r}; it has: {known}")
    settings = {**tables["defaults"], **own, **presets[preset]}
    return {name: value for name, value in settings.items() if name not in ("rules", "presets")}


def _with_current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {_FORMER_NAMES.get(name, name): value for name, value in settings.items()}


def _tables() -> dict[str, Any]:
    return tomllib.loads(RECIPES.read_text(encoding="utf-8"))


def _require(name: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise RecipeError(f"{name}: expected {expected}, found {value!r}")
