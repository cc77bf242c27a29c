"""How a network is trained, as data: `recipes.toml` read, merged and checked."""

import dataclasses
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from models.data.augmentation import AUGMENTATIONS, MIXTURES
from models.data.datasets import dataset as find_data_set
from models.errors import MetaplasticError
from models.parsing import ParseError, parse

_CHOOSING = ("by_images", "by_style", "images")  # what [default] has besides settings
_SHARED = ("defaults", "default")  # the tables that are no data set's
RECIPES = Path(__file__).with_name("recipes.toml")


class RecipeError(MetaplasticError):
    """A recipe that cannot be followed: names the setting and what was expected."""


@dataclass(frozen=True)
class Recipe:
    """Every hyperparameter of one training."""

    epochs: int
    batch_size: int
    validation: float  # share of the training set held out; every choice is made on it
    seed: int
    optimizer: Literal["sgd", "adam"]
    learning_rate: float  # the highest: reached after the warm-up
    warmup: float  # share of all steps over which the learning rate rises from 0
    schedule: Literal["cosine", "constant", "halving"]
    weight_decay: float  # decoupled, on kernels only: adam with it is AdamW
    label_smoothing: float  # of the cross-entropy; rewards are never smoothed
    preset: str = ""  # which of the network's presets this is; "" is the recipe itself
    momentum: float = 0.9  # of sgd, with Nesterov's step
    halve_every: int = 100  # epochs at each learning rate of the schedule "halving"
    patience: int = 0  # epochs in a row without a gain that end the training; 0: never
    normalise: bool = True  # by the data set's mean and deviation; else images enter in 0..1
    # What stays of batch normalisation's averages at each step: 0.99 needs about 500 steps to
    # forget where it began.
    batch_norm_momentum: float = 0.99
    precision: Literal["float32", "mixed_bfloat16"] = "float32"  # of the training's arithmetic
    mirror: bool = False  # the answer is the mean over image and mirror (flip_average.py)
    network: Mapping[str, Any] = field(default_factory=dict)  # the architecture's knobs
    augment: Mapping[str, float] = field(default_factory=dict)  # name -> strength, in order
    constants: Mapping[str, Any] = field(default_factory=dict)  # the learning rule's
    floor: float = 0.0  # share of learning_rate at which the schedule "cosine" ends
    average: int = 0  # the finished weights are the mean over so many last epochs' ends; 0: none
    teachers: tuple[str, ...] = ()  # folders of runs or published models (distillation.py)
    teacher_weight: float = (
        0.7  # of the teachers' soft answers in the loss; the labels get the rest
    )
    teacher_temperature: float = 2.0  # at which the teachers answer and are compared with

    def __post_init__(self) -> None:
        """Refuse what cannot be trained before any time is spent on it."""
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
        """The settings as JSON has them; `recipe_from` reads them back."""
        settings: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return settings


def recipe_for(
    dataset: str, architecture: str, rule: str, overrides: Mapping[str, Any] | None = None
) -> Recipe:
    """The recipe of (dataset, architecture, rule), with what `overrides` sets differently.

    Settings come from [defaults], then [<dataset>.<architecture>], or [default] where there is no
    such table, then its preset where
    `overrides` names one as `preset`, then the other `overrides`, where a dot reaches into a table
    (`network.dropout`). A table named after a learning rule holds that rule's constants and counts
    for it alone, so that twins differ in nothing else. Raises RecipeError.
    """
    # Here, since they bring Keras with them, and listing runs needs none.
    import keras

    from models.architectures import ARCHITECTURES, check_knobs
    from models.plasticity import LEARNING_RULES
    from models.plasticity.learning import Learning

    _require("rule", rule, rule in LEARNING_RULES, " or ".join(LEARNING_RULES))
    overrides = overrides or {}
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise RecipeError(f"no architecture is called {architecture!r}; there are: {known}")
    settings = _settings(dataset, architecture, overrides.get("preset", ""))
    for name, value in overrides.items():
        table, _, entry = name.rpartition(".")
        if table:
            settings[table] = {**settings.get(table, {}), entry: value}
        else:
            settings[name] = value
    constants = {name: settings.pop(name, {}) for name in LEARNING_RULES}
    recipe = recipe_from({**settings, "constants": constants[rule]})
    try:
        check_knobs(architecture, recipe.network)
        learning = LEARNING_RULES[rule](Learning(keras.optimizers.SGD()), **recipe.constants)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{dataset} {architecture} {rule}: {error}") from error
    if learning.outputs != "logits":
        mixed = [name for name in recipe.augment if name in MIXTURES]
        _require("augment", ", ".join(mixed), not mixed, "images of one class to learn from reward")
        taught = recipe.teachers
        _require("teachers", taught, not taught, "none: reward is all that this rule is told")
    return recipe


def recipe_names() -> list[tuple[str, str, str]]:
    """(data set, architecture, preset) of every recipe, in the file's order.

    A network's own recipe, whose preset is "", comes before its presets.
    """
    return [
        (dataset, architecture, preset)
        for dataset, networks in _tables().items()
        if dataset not in _SHARED
        for architecture, settings in networks.items()
        for preset in ("", *settings.get("presets", {}))
    ]


def trained_rules(dataset: str, architecture: str, preset: str) -> tuple[str, ...]:
    """What `train-all` trains the network with: what is published, and its control."""
    tables = _tables()
    own = tables[dataset][architecture]
    of_preset = own["presets"][preset] if preset else {}
    return tuple({**tables["defaults"], **own, **of_preset}["rules"])


def recipe_from(settings: Mapping[str, Any]) -> Recipe:
    """The recipe that these settings (as a card or a table holds them) describe."""
    known = {f.name for f in dataclasses.fields(Recipe)}
    if unknown := sorted(set(settings) - known):
        raise RecipeError(f"unknown settings {', '.join(unknown)}; there are: {', '.join(known)}")
    try:
        return parse(Recipe, settings, "recipe")
    except ParseError as error:
        raise RecipeError(str(error)) from error


def _settings(dataset: str, architecture: str, preset: str) -> dict[str, Any]:
    """What recipes.toml says of a network and its preset, over [defaults]."""
    tables = _tables()
    own = tables.get(dataset, {}).get(architecture) or _default(tables["default"], dataset)
    presets = {"": {}, **own.get("presets", {})}
    if not isinstance(preset, str) or preset not in presets:
        known = ", ".join(filter(None, presets)) or "none"
        raise RecipeError(f"{dataset} {architecture} has no preset {preset!r}; it has: {known}")
    settings = {**tables["defaults"], **own, **presets[preset]}
    return {name: value for name, value in settings.items() if name not in ("rules", "presets")}


def _default(table: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The table [default] for a data set of this size and style. Raises DataError."""
    known = find_data_set(name)
    images = known.splits.get("train", math.inf)
    row = next(row for row in table["by_images"] if images <= row.get("images", math.inf))
    own = {**table, **row, **table["by_style"].get(known.input.style, {})}
    return {name: value for name, value in own.items() if name not in _CHOOSING}


def _tables() -> dict[str, Any]:
    return tomllib.loads(RECIPES.read_text(encoding="utf-8"))


def _require(name: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise RecipeError(f"{name}: expected {expected}, found {value!r}")
