"""Paired comparisons: the same network, data order and initialisation under several rules.

Every variant is trained from the same seeds on the same part of the training set and measured on
the validation split; the test set is not read. What is reported is each variant's mean over the
seeds and its paired difference from plain backprop with a 95 % interval. Where that spans 0, no
difference was found.
"""

import dataclasses
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from models.training.build import build_network
from models.data.datasets import load, split
from models.errors import MetaplasticError
from models.training.recipes import Recipe, recipe_for
from models.training.runs import Run, claimed, find_runs, open_run, read_history, start_run
from studies.statistics import MOST_RUNS, Difference, paired_difference
from models.training.train import fit

BASELINE = "backprop"
USUAL_IMAGES = 6000  # to train with

# Name -> (rule, what it sets differently: the rule's constants, or `rate`, by which the recipe's
# learning rate is multiplied).
Variants = Mapping[str, tuple[str, Mapping[str, Any]]]

# As many tries for the baseline's learning rate as for a rule's strength.
METAPLASTICITY: Variants = {
    "backprop": ("backprop", {}),
    "backprop, rate x 0.5": ("backprop", {"rate": 0.5}),
    "backprop, rate x 2": ("backprop", {"rate": 2.0}),
    "kernel 0.5": ("metaplastic", {"rule": "kernel", "strength": 0.5}),
    "kernel 1.5": ("metaplastic", {"rule": "kernel", "strength": 1.5}),
    "consolidating 3": ("metaplastic", {"rule": "consolidating", "strength": 3.0}),
    "consolidating 10": ("metaplastic", {"rule": "consolidating", "strength": 10.0}),
    "pattern 2": ("metaplastic", {"rule": "pattern", "strength": 2.0}),
    "pattern 8": ("metaplastic", {"rule": "pattern", "strength": 8.0}),
}


class CompareError(MetaplasticError):
    """A comparison that cannot be made: says what was expected."""


@dataclass(frozen=True)
class Result:
    """A variant's validation accuracies after the last epoch, beside the baseline's."""

    variant: str
    accuracies: tuple[float, ...]  # one for each seed
    difference: Difference  # paired, from the baseline

    @property
    def mean(self) -> float:
        """The mean accuracy over the seeds."""
        return statistics.mean(self.accuracies)

    @property
    def deviation(self) -> float:
        """The accuracies' sample standard deviation."""
        return statistics.stdev(self.accuracies)


def compare_rules(
    dataset: str,
    architecture: str,
    variants: Variants,
    *,
    seeds: int,
    epochs: int,
    images: int | None,
    root: Path,
) -> list[Result]:
    """Train each of `variants`, BASELINE among them, with `seeds` seeds on `images` images.

    Without `images` that is USUAL_IMAGES, or half of the training images where there are fewer.

    Runs that `root` has already are not trained again, and an interrupted one goes on. Raises
    CompareError for a number of seeds or images that cannot be had.
    """
    if not 2 <= seeds <= MOST_RUNS:
        raise CompareError(f"seeds: expected 2 to {MOST_RUNS}, found {seeds}")
    arrays = load(dataset)
    if images is None:
        images = min(USUAL_IMAGES, len(arrays.x_train) // 2)
    if not 0 < images <= len(arrays.x_train) / 2:
        raise CompareError(
            f"images: expected up to half of the {len(arrays.x_train)} there are, found {images}"
        )
    # Other networks of the same name, and other backends' initial weights, make no pairs.
    network = build_network(_as_planned(dataset, architecture, epochs))
    kind = f"{network.count_params()}-parameters-{keras.backend.backend()}"
    folder = root / f"{dataset}-{architecture}-{kind}-{images}-images-{epochs}-epochs"
    started = [open_run(path) for path in find_runs(folder)]
    accuracies: dict[str, list[float]] = {variant: [] for variant in variants}
    for seed in range(seeds):
        for variant, (rule, settings) in variants.items():
            recipe = _recipe(dataset, architecture, rule, settings, epochs, seed)
            same = [run for run in started if run.rule == rule and run.recipe == recipe]
            run = same[0] if same else _start(folder, dataset, architecture, rule, recipe)
            if len(read_history(run.folder)) < epochs:
                training, validation = arrays.split(recipe.validation)
                _, part = split(*training, images / len(training[0]))
                with claimed(run.folder):
                    fit(run, part, validation)
                for weights in run.folder.glob("*.weights.h5"):
                    weights.unlink()
            accuracies[variant].append(read_history(run.folder)[-1]["val_accuracy"])
    return [
        Result(variant, tuple(found), paired_difference(found, accuracies[BASELINE]))
        for variant, found in accuracies.items()
    ]


def _recipe(
    dataset: str,
    architecture: str,
    rule: str,
    settings: Mapping[str, Any],
    epochs: int,
    seed: int,
) -> Recipe:
    constants = {f"{rule}.{name}": value for name, value in settings.items() if name != "rate"}
    recipe = recipe_for(dataset, architecture, rule, {"epochs": epochs, "seed": seed} | constants)
    rate = recipe.learning_rate * settings.get("rate", 1.0)
    # Comparisons are short.
    return dataclasses.replace(recipe, learning_rate=rate, batch_norm_momentum=0.9)


def _as_planned(dataset: str, architecture: str, epochs: int) -> Run:
    recipe = _recipe(dataset, architecture, BASELINE, {}, epochs, seed=0)
    return Run(Path(), dataset, architecture, BASELINE, recipe, "")


def _start(folder: Path, dataset: str, architecture: str, rule: str, recipe: Recipe) -> Run:
    return start_run(folder, dataset, architecture, rule, recipe, "python -m models compare")
