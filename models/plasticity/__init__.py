"""Learning rules, a file each, and the table of them.

A rule is what it makes of a base optimizer: a function or class that takes the optimizer and the
rule's constants, and returns an optimizer. Where that has `loss_weights`, a function of a batch of
images, training weights each image's loss by it.
"""

from collections.abc import Callable

import keras

from models.plasticity.metaplastic import Metaplastic


def backprop(base: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The plain baseline: the base optimizer's own steps."""
    return base


LEARNING_RULES: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "metaplastic": Metaplastic,
    "backprop": backprop,
}
