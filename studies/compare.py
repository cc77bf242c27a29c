"""Compare the metaplastic rules with the baseline on one network, trained by its own recipe.

Every variant is trained from the same seeds, on the same images in the same order, from the same
initial weights. Accuracy is measured on the validation split after the last epoch. The test set is
not read.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import keras

from models.data.datasets import load
from models.errors import MetaplasticError
from models.training.build import build_network
from models.training.recipes import recipe_for
from models.training.runs import Run
from studies.plan import BASELINE
from studies.results import Tables, Trial, read_done
from studies.statistics import MOST_RUNS
from studies.summary import Pairs, paired
from studies.training import learn_by_recipe
from studies.work import work_through

# Name -> (rule, strength, factor of the recipe's learning rate). The first one is the baseline. Its
# learning rate gets as many tries as the strength of a rule.
Variants = Mapping[str, tuple[str, float, float]]
VARIANTS: Variants = {
    "backprop": (BASELINE, 0.0, 1.0),
    "backprop, rate x 0.5": (BASELINE, 0.0, 0.5),
    "backprop, rate x 2": (BASELINE, 0.0, 2.0),
    "kernel 0.5": ("kernel", 0.5, 1.0),
    "kernel 1.5": ("kernel", 1.5, 1.0),
    "consolidating 3": ("consolidating", 3.0, 1.0),
    "consolidating 10": ("consolidating", 10.0, 1.0),
    "pattern 2": ("pattern", 2.0, 1.0),
    "pattern 8": ("pattern", 8.0, 1.0),
}


def compare_rules(
    dataset: str,
    architecture: str,
    *,
    seeds: int,
    epochs: int,
    images: int,
    root: Path,
    variants: Variants = VARIANTS,
) -> dict[str, Pairs]:
    """Train each of `variants` with `seeds` seeds and return each one paired with the baseline.

    `images` is the number of training images. Results are kept below `root`: what is already there
    is not trained again, and an interrupted training continues.

    Raises MetaplasticError for a number of seeds or images that is not possible.
    """
    if not 2 <= seeds <= MOST_RUNS:
        raise MetaplasticError(f"seeds: expected 2 to {MOST_RUNS}, found {seeds}")
    there = len(load(dataset).x_train)
    if not 0 < images <= there / 2:
        raise MetaplasticError(
            f"images: expected up to half of the {there} there are, found {images}"
        )
    recipe = recipe_for(dataset, architecture, "backprop", {"epochs": epochs, "seed": 0})
    trials = {
        name: [
            Trial(
                dataset=dataset,
                architecture=architecture,
                condition="clean",
                optimizer=recipe.optimizer,
                purpose="tuning",
                rule=rule,
                # As many digits as a row of the table keeps.
                learning_rate=float(f"{recipe.learning_rate * factor:.6g}"),
                strength=strength,
                images=images,
                epochs=epochs,
                seed=seed,
            )
            for seed in range(seeds)
        ]
        for name, (rule, strength, factor) in variants.items()
    }
    # Only trials with the same recipe, network and backend make pairs.
    network = build_network(Run(Path(), dataset, architecture, "backprop", recipe, command=""))
    kind = {**recipe.as_dict(), "parameters": network.count_params()}
    kind |= {"epochs": None, "backend": keras.backend.backend()}
    digest = hashlib.sha256(json.dumps(kind, sort_keys=True).encode()).hexdigest()[:8]
    tables = Tables(root, f"{dataset}-{architecture}-{digest}")
    # Seed by seed, so that all variants are equally far when the work is stopped.
    in_turn = [trial for same_seed in zip(*trials.values(), strict=True) for trial in same_seed]
    work_through(lambda done: in_turn, learn_by_recipe, tables, root / tables.study)
    done = read_done(tables)
    rows = {name: {trial: done[trial] for trial in planned} for name, planned in trials.items()}
    baseline = next(iter(rows.values()))
    return {name: paired(found, baseline) for name, found in rows.items()}
