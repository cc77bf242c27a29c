"""Build the network of a run, and the optimizer and the loss that train it."""

import dataclasses
from typing import Any

import keras

from models import architectures
from models.cards import ImageInput
from models.data.datasets import dataset
from models.plasticity import LEARNING_RULES
from models.plasticity.learning import Learning
from models.training.distillation import distilled
from models.training.recipes import Recipe
from models.training.runs import Run


def build_network(run: Run) -> keras.Model:
    """Return the untrained network of a run."""
    given = image_input(run)
    shape = (given.height, given.width, given.channels)
    return architectures.build(
        *(run.architecture, shape, len(dataset(run.dataset).labels), given.mean, given.std),
        **run.recipe.network,
    )


def image_input(run: Run) -> ImageInput:
    """Return the input of the network of a run. Without normalisation, mean is 0 and std is 1."""
    given = dataset(run.dataset).input
    if run.recipe.normalise:
        return given
    return dataclasses.replace(given, mean=(0.0,) * given.channels, std=(1.0,) * given.channels)


def build_learning(run: Run, steps: int) -> Learning:
    """Return the optimizer and the loss of a run.

    The recipe determines SGD or Adam and the cross-entropy. Then the learning rule and the teachers
    modify them. `steps` is the number of batches in an epoch.
    """
    recipe = run.recipe
    rate = _learning_rate(recipe, steps)
    decay = recipe.weight_decay or None
    base: keras.optimizers.Optimizer
    if recipe.optimizer == "sgd":
        nesterov = recipe.momentum > 0
        base = keras.optimizers.SGD(rate, recipe.momentum, nesterov, weight_decay=decay)
    else:
        base = keras.optimizers.Adam(rate, weight_decay=decay)
    base.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=recipe.label_smoothing
    )
    learning = LEARNING_RULES[run.rule](Learning(base, loss), **recipe.constants)
    return distilled(learning, recipe)


def _learning_rate(recipe: Recipe, steps: int) -> Any:
    if recipe.schedule == "halving":
        return keras.optimizers.schedules.ExponentialDecay(
            recipe.learning_rate, recipe.halve_every * steps, decay_rate=0.5, staircase=True
        )
    total_steps = steps * recipe.epochs
    warmup_steps = round(recipe.warmup * total_steps)
    if recipe.schedule == "constant" and not warmup_steps:
        return recipe.learning_rate
    # With alpha 1 the cosine ends where it begins, so it is a constant after the warm-up.
    alpha = recipe.floor if recipe.schedule == "cosine" else 1.0
    if not warmup_steps:
        return keras.optimizers.schedules.CosineDecay(recipe.learning_rate, total_steps, alpha)
    return keras.optimizers.schedules.CosineDecay(
        0.0,
        decay_steps=max(total_steps - warmup_steps, 1),
        alpha=alpha,
        warmup_target=recipe.learning_rate,
        warmup_steps=warmup_steps,
    )
