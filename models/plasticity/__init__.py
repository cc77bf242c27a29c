"""Learning rules, one file each, and their table.

A rule is a function. It takes the Learning of the baseline and the constants of the rule, and
returns a Learning with another optimizer, another loss or other targets.

These files are also the package `metaplastic`, for others: `pip install .` needs Keras and numpy
alone. So they import each other relatively, and nothing else of this project.
"""

from collections.abc import Callable

from .brainprop import AnswerAccuracy as AnswerAccuracy
from .brainprop import RewardPredictionError as RewardPredictionError
from .brainprop import brainprop as brainprop
from .brainprop import choice_noise as choice_noise
from .learning import Learning as Learning
from .metaplastic import Metaplastic as Metaplastic
from .metaplastic import metaplastic as metaplastic
from .synaptic_intelligence import SynapticIntelligence as SynapticIntelligence


def backprop(baseline: Learning) -> Learning:
    """Return the baseline unchanged."""
    return baseline


LEARNING_RULES: dict[str, Callable[..., Learning]] = {
    "metaplastic": metaplastic,
    "brainprop": brainprop,
    "backprop": backprop,
}
