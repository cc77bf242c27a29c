"""One trial on one data set: its images and labels, its recipe, its training, its figures."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.training.build import build_network
from models.data.datasets import Arrays, Images, Labels, dataset, load, scaled
from models.errors import MetaplasticError
from models.training.recipes import Recipe, recipe_from
from models.training.runs import Run, checkpoint_path, read_history, trained_on
from studies.groups import VARIANTS
from studies.plan import PLAIN
from studies.results import Outcome, Trial
from models.training.train import fit
from models.training.fast_clone import training_network

VALIDATION = 0.1  # the share of the training set held out
VALIDATED = 2000  # of those images are looked at after each epoch
WRONG_LABELS = 0.2  # the share, under the condition of that name

# What all trials on one data set have in common: no regularisation but a little weight decay.
_COMMON: Mapping[str, Any] = {
    "batch_size": 128,
    "validation": VALIDATION,
    "warmup": 0.1,
    "schedule": "cosine",
    "weight_decay": 5e-4,
    "label_smoothing": 0.0,
    "precision": "mixed_bfloat16",  # faster, so more of it
    # Trials of a hundred steps are measured too.
    "batch_norm_momentum": 0.9,
}

# The classic VGG: of two convolutions and a pool in each block, and two dense layers.
_VGG: Mapping[str, Any] = {
    **{"width": 32, "dense": 128, "whiten": False, "early_pool": False, "logit_scale": 1.0},
    **{"blocks": 3},
}


def learn(trial: Trial, folder: Path) -> Outcome:
    """Carry out one of the trials of LEARNING in `folder`, from where it was left."""
    network = _VGG if trial.architecture == "vgg" else {}
    return _train(trial, _recipe(trial, network=network), folder)


def learn_with_ingredients(trial: Trial, folder: Path) -> Outcome:
    """Carry out one of the trials of INGREDIENTS in `folder`, from where it was left."""
    variant = VARIANTS[trial.condition]
    settings = {
        "network": {**_VGG, "batch_norm": False, **variant.network},
        "augment": variant.augment,
        "weight_decay": 0.0,
    }
    return _train(trial, _recipe(trial, **settings), folder)


def _recipe(trial: Trial, **settings: Any) -> Recipe:
    """`settings` are other hyperparameters than the common ones."""
    constants = {"rule": trial.rule, "strength": trial.strength}
    return recipe_from(
        {
            **_COMMON,
            "epochs": trial.epochs,
            "seed": trial.seed,
            "optimizer": trial.optimizer,
            "learning_rate": trial.learning_rate,
            "constants": {} if trial.rule == PLAIN else constants,
            **settings,
        }
    )


def _train(trial: Trial, recipe: Recipe, folder: Path) -> Outcome:
    """Train in `folder` from where it was left, then measure; the test set only for a report."""
    arrays = arrays_of(trial.dataset)
    training, validation = arrays.split(VALIDATION)
    rule = "backprop" if trial.rule == PLAIN else "metaplastic"
    run = Run(folder, trial.dataset, trial.architecture, rule, recipe, command="")
    classes = len(dataset(trial.dataset).labels)
    fit(run, prepared(trial, *training, classes), first(*validation))
    history = read_history(folder)
    figures: dict[str, float | str] = {
        f"validation_{epochs}": history[epochs - 1]["val_accuracy"]
        for epochs in (1, 3)
        if epochs <= len(history)
    }
    figures["train"] = history[-1]["accuracy"]
    figures["validation"] = history[-1]["val_accuracy"]
    if trial.purpose == "report":
        model = _trained(run)
        figures["test"] = accuracy(model, arrays.x_test, arrays.y_test)
    figures["seconds"] = sum(row["seconds"] for row in history)
    curve = [{name: row[name] for name in _CURVE} for row in history]
    figures["backend"], figures["machine"] = trained_on(folder)
    return Outcome(figures, [{**row, "epoch": int(row["epoch"])} for row in curve])


_CURVE = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")


@functools.cache
def arrays_of(name: str) -> Arrays:
    """A data set, read once by each process."""
    return load(name)


def prepared(trial: Trial, images: Images, labels: Labels, classes: int) -> tuple[Images, Labels]:
    """The images that a trial is trained on, and what it is told that they are.

    Which images and which labels are wrong depends on the seed alone, as paired trials need it.
    """
    if trial.images > len(images):
        raise MetaplasticError(
            f"{trial.dataset}: expected up to {len(images)} training images, found {trial.images}"
        )
    random = np.random.default_rng((trial.seed, 1))
    drawn = random.permutation(len(images))[: trial.images]
    images, labels = images[drawn], labels[drawn].copy()
    if trial.condition == "wrong-labels":
        count = round(WRONG_LABELS * len(labels))  # the first ones: they are in random order
        labels[:count] = (labels[:count] + random.integers(1, classes, count)) % classes
    return images, labels


def first(images: Images, labels: Labels) -> tuple[Images, Labels]:
    """The validation images that are looked at after each epoch: the same in every trial."""
    drawn = np.random.default_rng(0).permutation(len(images))[:VALIDATED]
    return images[drawn], labels[drawn]


def accuracy(model: keras.Model, images: Images, labels: Labels) -> float:
    """The share of images whose highest output is their label."""
    outputs = model.predict(scaled(images), batch_size=500, verbose=0)
    return float((np.asarray(outputs).argmax(axis=1) == labels).mean())


def _trained(run: Run) -> keras.Model:
    """The network with the weights of the last epoch."""
    model = training_network(build_network(run), run.recipe.precision)
    model.load_weights(checkpoint_path(run.folder, run.recipe.epochs))
    return model
