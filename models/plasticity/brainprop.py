"""BrainProp: learn from reward alone (Pozzi, Bohte and Roelfsema, NeurIPS 2020).

A network's outputs q estimate the reward for naming each class. In training it names one class s,
hears only whether that was right, and only the unit that was picked sends an error back:

    s    = argmax q; with probability epsilon, drawn from softmax(q) instead
    r    = 1 if s is the true class, else 0
    loss = (r - q_s)^2 / 2, mean over the batch
    dw   = rate * (r - q_s) * dq_s/dw        the step of plain gradient descent

The gradient of every other output is exactly 0. At test the network answers argmax q.

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

from models.plasticity.learning import Learning, Rows
from models.plasticity.metaplastic import metaplastic as around

Trials = npt.NDArray[np.float32]  # (N, 2, classes): what each choice earns, noise of the choice


def brainprop(
    plain: Learning, epsilon: float = 0.02, metaplastic: Mapping[str, Any] | None = None
) -> Learning:
    """Reward in place of labels; with `metaplastic`, that rule's constants, on such synapses.

    `epsilon` is the share of images, 0..1, on which the network explores. Raises ValueError.
    """
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon: expected a share from 0 to 1, found {epsilon!r}")

    def targets(labels: Rows, random: np.random.Generator | None) -> Trials:
        noise = np.zeros_like(labels) if random is None else choice_noise(labels, epsilon, random)
        return np.stack([labels, noise], axis=1)

    rewarded = dataclasses.replace(
        plain,
        loss=RewardPredictionError(),
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
    """Half the squared difference between the reward of the choice and its estimate, q_s.

    Takes trials (N, 2, classes), the reward that each choice would earn and the noise of the
    choice, and outputs q (N, classes); the network hears the reward of its own choice alone.
    """

    def call(self, trials: Any, q: Any) -> Any:
        """The loss of each image, (N,)."""
        rewards, noise = trials[:, 0], trials[:, 1]
        picked = ops.one_hot(ops.argmax(q + noise, axis=-1), q.shape[-1], dtype=q.dtype)
        return ops.square(ops.sum(picked * (rewards - q), axis=-1)) / 2


@keras.saving.register_keras_serializable(package="metaplastic")
class AnswerAccuracy(keras.metrics.CategoricalAccuracy):
    """The share of images whose argmax q, what the network would answer at test, is their class."""

    def update_state(self, trials: Any, q: Any, sample_weight: Any = None) -> Any:
        return super().update_state(trials[:, 0], q, sample_weight)
