"""Learning rules, one file each, and their table.

A rule is a function. It takes the Learning of the baseline and the constants of the rule, and
returns a Learning with another optimizer, another loss or other targets.
"""

from collections.abc import Callable

from models.plasticity.brainprop import brainprop
from models.plasticity.learning import Learning
from models.plasticity.metaplastic import metaplastic


def backprop(baseline: Learning) -> Learning:
    """Return the baseline unchanged."""
    return baseline


LEARNING_RULES: dict[str, Callable[..., Learning]] = {
    "metaplastic": metaplastic,
    "brainprop": brainprop,
    "backprop": backprop,
}
