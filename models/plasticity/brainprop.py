"""BrainProp: learn from reward alone (Pozzi, Bohte and Roelfsema, NeurIPS 2020).

The outputs q of a network estimate the reward for choosing each class. In training the network
chooses one class s and learns only whether the choice was right. Only the chosen unit sends an
error back:

    s    = argmax q; with probability epsilon, drawn from softmax(q) instead
    r    = 1 if s is the true class, else 0
    loss = (r - q_s)^2 / 2              mean over the batch
    dw   = rate * (r - q_s) * dq_s/dw        the step of plain gradient descent

The gradient of every other output is exactly 0. In the test the network chooses argmax q.

Two constants extend the paper. With `tries` above 1, a choice without reward is followed by the
next best one on the same image, until one is right or `tries` choices were made. The losses of all
choices add up. Among many classes a right choice is rare at first, and more tries earn more
rewards. A network that is right at once tries only once. `reward_weight` multiplies the loss of a
rewarded choice. Raise it when rewards are rare. The paper corresponds to 1 and 1.

The choice of s is a max-Boltzmann controller, computed as argmax(q + noise). The noise is 0 for
most images and standard Gumbel noise for images that are explored. By the Gumbel-max trick, s then
follows softmax(q). So the network is an ordinary one with outputs q, and the loss is a function of
its arguments. All randomness comes with the batch, which repeats it when a training is resumed.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from .constants import number, whole_number
from .learning import Learning, Rows
from .metaplastic import metaplastic as around

# (N, 2, classes): the reward of each choice, and the noise that is added to q before the choice.
Trials = npt.NDArray[np.float32]


def brainprop(
    baseline: Learning,
    epsilon: float = 0.02,
    tries: int = 1,
    reward_weight: float = 1.0,
    metaplastic: Mapping[str, Any] | None = None,
) -> Learning:
    """Return `baseline` with rewards instead of labels.

    `epsilon` (0..1) is the share of images on which the network explores. `tries` (1 or more) is
    the maximum number of choices for an image. `reward_weight` (above 0) multiplies the loss of a
    rewarded choice. `metaplastic`, if given, holds the constants of the rule of that name, which
    then scales the steps. Raises ValueError for a constant out of range.
    """
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon: expected a share from 0 to 1, found {epsilon!r}")
    tries = whole_number("tries", tries, at_least=1)
    reward_weight = number("reward_weight", reward_weight, above=0)

    def targets(labels: Rows, random: np.random.Generator | None) -> Trials:
        noise = np.zeros_like(labels) if random is None else choice_noise(labels, epsilon, random)
        return np.stack([labels, noise], axis=1)

    rewarded = dataclasses.replace(
        baseline,
        loss=RewardPredictionError(tries, reward_weight),
        outputs="reward estimates",
        accuracy=AnswerAccuracy(name="accuracy"),
        targets=targets,
    )
    return rewarded if metaplastic is None else around(rewarded, **metaplastic)


def choice_noise(labels: Rows, epsilon: float, random: np.random.Generator) -> Rows:
    """Return noise (N, classes) for which argmax(q + noise) is a max-Boltzmann choice."""
    explores = random.random((len(labels), 1)) < epsilon
    return np.where(explores, random.gumbel(size=labels.shape), 0).astype(np.float32)


@keras.saving.register_keras_serializable(package="metaplastic")
class RewardPredictionError(keras.losses.Loss):
    """Half the squared difference between the reward of a choice and its estimate q_s.

    The arguments are trials (N, 2, classes) and outputs q (N, classes). A trial holds the reward
    that each choice would earn and the noise of the choice. Only the rewards of choices that the
    network makes enter the loss. It makes at most `tries` choices, at most one for each class, and
    none after a rewarded one, whose loss is multiplied by `reward_weight`.
    """

    def __init__(self, tries: int = 1, reward_weight: float = 1.0, **settings: Any) -> None:
        super().__init__(**settings)
        self.tries, self.reward_weight = tries, reward_weight

    def call(self, trials: Any, q: Any) -> Any:
        """Return the loss (N,) of each image, summed over its choices."""
        rewards, noise = trials[:, 0], trials[:, 1]
        classes = q.shape[-1]
        _, choices = ops.top_k(q + noise, min(self.tries, classes))  # best first
        picked = ops.one_hot(choices, classes, dtype=q.dtype)  # (N, tries, classes)
        error = ops.sum(picked * ops.expand_dims(rewards - q, 1), axis=-1)
        earned = ops.sum(picked * ops.expand_dims(rewards, 1), axis=-1)
        made = 1 - (ops.cumsum(earned, axis=-1) - earned)  # 0 once an earlier choice was right
        weights = made * (1 + (self.reward_weight - 1) * earned)
        return ops.sum(weights * ops.square(error), axis=-1) / 2

    def get_config(self) -> dict[str, Any]:
        own = {"tries": self.tries, "reward_weight": self.reward_weight}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="metaplastic")
class AnswerAccuracy(keras.metrics.CategoricalAccuracy):
    """The share of images whose class is argmax q, the choice in the test."""

    def update_state(self, trials: Any, q: Any, sample_weight: Any = None) -> Any:
        return super().update_state(trials[:, 0], q, sample_weight)
