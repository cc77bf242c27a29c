"""BrainProp: learn from reward alone (Pozzi, Bohte and Roelfsema, NeurIPS 2020).

A network's outputs q estimate the reward for naming each class. In training it names one class s,
hears only whether that was right, and only the unit that was picked sends an error back:

    s    = argmax q; with probability epsilon, drawn from softmax(q) instead
    r    = 1 if s is the true class, else 0
    loss = (r - q_s)^2 / 2, mean over the batch
    dw   = rate * (r - q_s) * dq_s/dw        the step of plain gradient descent

The gradient of every other output is exactly 0. At test the network answers argmax q.

With `tries` above 1, which the paper does not have, a choice that earns nothing is followed by the
next best one on the same image, until one is right or so many were made; the losses of those that
were made add up. Among many classes a right pick is rare at first, and this makes it less so, still
by reward alone. A network that is right at once tries once. `reward_weight`, 1 in the paper, is how
many times the loss of a rewarded choice counts: where failures are many, rewards are to be heard.

The choice of s is a max-Boltzmann controller. It is made as argmax(q + noise), where the noise is 0
for an image that is not explored, and standard Gumbel noise for one that is: by the Gumbel-max
trick, s then follows softmax(q). So the network stays a plain one with the outputs q, the loss a
function of its arguments, and all chance comes with the batch, which draws it again when a
training is resumed.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from models.plasticity.constants import number, whole_number
from models.plasticity.learning import Learning, Rows
from models.plasticity.metaplastic import metaplastic as around

Trials = npt.NDArray[np.float32]  # (N, 2, classes): what each choice earns, noise of the choice


def brainprop(
    plain: Learning,
    epsilon: float = 0.02,
    tries: int = 1,
    reward_weight: float = 1.0,
    metaplastic: Mapping[str, Any] | None = None,
) -> Learning:
    """Reward in place of labels; with `metaplastic`, that rule's constants, on such synapses.

    `epsilon` is the share of images, 0..1, on which the network explores; `tries`, 1 or more, how
    many choices it may make on an image until one is rewarded; `reward_weight`, above 0, how many
    times the loss of a rewarded choice counts. Raises ValueError.
    """
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon: expected a share from 0 to 1, found {epsilon!r}")
    tries = whole_number("tries", tries, at_least=1)
    reward_weight = number("reward_weight", reward_weight, above=0)

    def targets(labels: Rows, random: np.random.Generator | None) -> Trials:
        noise = np.zeros_like(labels) if random is None else choice_noise(labels, epsilon, random)
        return np.stack([labels, noise], axis=1)

    rewarded = dataclasses.replace(
        plain,
        loss=RewardPredictionError(tries, reward_weight),
        outputs="reward estimates",
        accuracy=AnswerAccuracy(name="accuracy"),
        targets=targets,
    )
    return rewarded if metaplastic is None else around(rewarded, **metaplastic)


def choice_noise(labels: Rows, epsilon: float, random: np.random.Generator) -> Rows:
    """Noise (N, classes) that makes argmax(q + noise) the choice of a max-Boltzmann controller."""
    explores = random.random((len(labels), 1)) < epsilon
    return np.where(explores, random.gumbel(size=labels.shape), 0).astype(np.float32)


@keras.saving.register_keras_serializable(package="metaplastic")
class RewardPredictionError(keras.losses.Loss):
    """Half the squared difference between the reward of a choice and its estimate, q_s.

    Takes trials (N, 2, classes), the reward that each choice would earn and the noise of the
    choice, and outputs q (N, classes); the network hears the rewards of its own choices alone.
    These are `tries` at most, or as many as there are classes, and none after a rewarded one,
    whose loss counts `reward_weight` times.
    """

    def __init__(self, tries: int = 1, reward_weight: float = 1.0, **settings: Any) -> None:
        super().__init__(**settings)
        self.tries, self.reward_weight = tries, reward_weight

    def call(self, trials: Any, q: Any) -> Any:
        """The loss of each image, (N,), summed over its choices."""
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
    """The share of images whose argmax q, what the network would answer at test, is their class."""

    def update_state(self, trials: Any, q: Any, sample_weight: Any = None) -> Any:
        return super().update_state(trials[:, 0], q, sample_weight)
