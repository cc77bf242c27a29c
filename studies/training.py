"""Carry out one trial on one data set: its images, its recipe, its training and its figures."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.data.datasets import Arrays, Images, Labels, dataset, load, scaled, split
from models.errors import MetaplasticError
from models.training.build import build_network
from models.training.fast_clone import fast_clone
from models.training.recipes import Recipe, recipe_for, recipe_from
from models.training.runs import Run, checkpoint_path, read_history, trained_on
from models.training.train import fit
from studies.groups import VARIANTS
from studies.plan import BASELINE
from studies.results import Trial, TrialResult

VALIDATION = 0.1  # the share of the training set held out
VALIDATED = 2000  # images of the validation split that are classified after each epoch
WRONG_LABELS = 0.2  # share of the labels under the condition "wrong-labels"

# The settings that all trials of a study share. A little weight decay is the only regularisation.
_COMMON: Mapping[str, Any] = {
    "batch_size": 128,
    "validation": VALIDATION,
    "warmup": 0.1,
    "schedule": "cosine",
    "weight_decay": 5e-4,
    "label_smoothing": 0.0,
    "precision": "mixed_bfloat16",  # faster, so that more trials fit into the same time
    # With 0.99, trials of only a hundred steps would still be measured with initial averages.
    "batch_norm_momentum": 0.9,
}

# The classic VGG: two convolutions and a pool in each block, then two dense layers.
_VGG: Mapping[str, Any] = {
    **{"width": 32, "dense": 128, "whiten": False, "early_pool": False, "logit_scale": 1.0},
    **{"blocks": 3},
}


def learn(trial: Trial, folder: Path) -> TrialResult:
    """Carry out a trial of LEARNING in `folder`, from its last finished epoch."""
    network = _VGG if trial.architecture == "vgg" else {}
    return _train(trial, _recipe(trial, network=network), folder)


def learn_with_ingredients(trial: Trial, folder: Path) -> TrialResult:
    """Carry out a trial of INGREDIENTS in `folder`, from its last finished epoch."""
    variant = VARIANTS[trial.condition]
    settings = {
        "network": {**_VGG, "batch_norm": False, **variant.network},
        "augment": variant.augment,
        "weight_decay": 0.0,
    }
    return _train(trial, _recipe(trial, **settings), folder)


def learn_by_recipe(trial: Trial, folder: Path) -> TrialResult:
    """Carry out a trial of compare.py in `folder`, from its last finished epoch.

    The recipe is the network's own in recipes.toml. The training images are the same for all seeds,
    and accuracy is that of the whole validation split.
    """
    rule = "backprop" if trial.rule == BASELINE else "metaplastic"
    settings: dict[str, Any] = {
        "epochs": trial.epochs,
        "seed": trial.seed,
        "learning_rate": trial.learning_rate,
        "batch_norm_momentum": _COMMON["batch_norm_momentum"],
    }
    if trial.rule != BASELINE:
        settings |= {"metaplastic.rule": trial.rule, "metaplastic.strength": trial.strength}
    recipe = recipe_for(trial.dataset, trial.architecture, rule, settings)
    arrays = arrays_of(trial.dataset)
    training, validation = split(arrays.x_train, arrays.y_train, recipe.validation)
    _, part = split(*training, trial.images / len(training[0]))
    run = Run(folder, trial.dataset, trial.architecture, rule, recipe, command="")
    fit(run, part, validation)
    return _result(folder)


def _recipe(trial: Trial, **settings: Any) -> Recipe:
    """Return the recipe of a trial. `settings` are added to the common ones or replace them."""
    constants = {"rule": trial.rule, "strength": trial.strength}
    return recipe_from(
        {
            **_COMMON,
            "epochs": trial.epochs,
            "seed": trial.seed,
            "optimizer": trial.optimizer,
            "learning_rate": trial.learning_rate,
            "constants": {} if trial.rule == BASELINE else constants,
            **settings,
        }
    )


def _train(trial: Trial, recipe: Recipe, folder: Path) -> TrialResult:
    """Train in `folder` from its last finished epoch, then measure.

    Only a trial for the report reads the test set.
    """
    arrays = arrays_of(trial.dataset)
    training, validation = split(arrays.x_train, arrays.y_train, VALIDATION)
    rule = "backprop" if trial.rule == BASELINE else "metaplastic"
    run = Run(folder, trial.dataset, trial.architecture, rule, recipe, command="")
    classes = len(dataset(trial.dataset).labels)
    fit(run, prepared(trial, *training, classes), first(*validation))
    if trial.purpose != "report":
        return _result(folder)
    return _result(folder, test=accuracy(_trained(run), arrays.x_test, arrays.y_test))


_CURVE = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")


def _result(folder: Path, **measured: float) -> TrialResult:
    """Return the figures of the finished training in `folder`, with those that were `measured`."""
    history = read_history(folder)
    figures: dict[str, float | str] = {
        f"validation_{epochs}": history[epochs - 1]["val_accuracy"]
        for epochs in (1, 3)
        if epochs <= len(history)
    }
    figures["train"] = history[-1]["accuracy"]
    figures["validation"] = history[-1]["val_accuracy"]
    figures |= measured
    figures["seconds"] = sum(row["seconds"] for row in history)
    figures["backend"], figures["hardware"] = trained_on(folder)
    curve = [{name: row[name] for name in _CURVE} for row in history]
    return TrialResult(figures, [{**row, "epoch": int(row["epoch"])} for row in curve])


@functools.cache
def arrays_of(name: str) -> Arrays:
    """Return the arrays of a data set, which each process reads only once."""
    return load(name)


def prepared(trial: Trial, images: Images, labels: Labels, classes: int) -> tuple[Images, Labels]:
    """Return the training images and labels of a trial.

    The choice of images and of wrong labels depends on the seed alone, so that paired trials get
    the same ones. Raises MetaplasticError if there are fewer images than the trial needs.
    """
    if trial.images > len(images):
        raise MetaplasticError(
            f"{trial.dataset}: expected up to {len(images)} training images, found {trial.images}"
        )
    random = np.random.default_rng((trial.seed, 1))
    drawn = random.permutation(len(images))[: trial.images]
    images, labels = images[drawn], labels[drawn].copy()
    if trial.condition == "wrong-labels":
        count = round(WRONG_LABELS * len(labels))  # the first ones, because the order is random
        labels[:count] = (labels[:count] + random.integers(1, classes, count)) % classes
    return images, labels


def first(images: Images, labels: Labels) -> tuple[Images, Labels]:
    """Return the validation images for the end of each epoch: the same ones in every trial."""
    drawn = np.random.default_rng(0).permutation(len(images))[:VALIDATED]
    return images[drawn], labels[drawn]


def accuracy(model: keras.Model, images: Images, labels: Labels) -> float:
    """Return the share (0..1) of uint8 `images` whose largest output is that of their label."""
    outputs = model.predict(scaled(images), batch_size=500, verbose=0)
    return float((np.asarray(outputs).argmax(axis=1) == labels).mean())


def _trained(run: Run) -> keras.Model:
    """Return the network with the weights of the last epoch."""
    model = fast_clone(build_network(run), run.recipe.precision)
    model.load_weights(checkpoint_path(run.folder, run.recipe.epochs))
    return model
