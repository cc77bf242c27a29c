"""Learning rules, a file each, and the table of them.

A rule is what it makes of plain learning: a function that takes a Learning and the rule's
constants, and returns one in which the optimizer, the loss or what the loss is told is another.
"""

from collections.abc import Callable

from models.plasticity.brainprop import brainprop
from models.plasticity.learning import Learning
from models.plasticity.metaplastic import metaplastic


def backprop(plain: Learning) -> Learning:
    """The baseline: nothing changed."""
    return plain


LEARNING_RULES: dict[str, Callable[..., Learning]] = {
    "metaplastic": metaplastic,
    "brainprop": brainprop,
    "backprop": backprop,
}
