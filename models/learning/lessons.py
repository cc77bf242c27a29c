"""What a network learns from votes, and from its own answers at home, as targets of one loss.

A vote says that a picture belongs to a class (thumb up, or a label), or that it does not belong to
the class that was answered (thumb down). With z the outputs of the network and p = softmax(z):

    belongs to t:          loss = -log p_t
    does not belong to s:  loss = -log(1 - p_s) + sure * H(p without s)
    at home:               loss = -T^2 * sum over classes of P log softmax(z / T)

H(p without s) is the entropy of the other classes, whose shares are those of softmax(z) without s.
Once p_s is small, the likelihood alone says nothing about them. A small entropy lets the network
decide between them by what other votes taught it (Grandvalet and Bengio, "Semi-supervised Learning
by Entropy Minimization", NIPS 2004). `sure` is 0 where no home images say what the classes look
like: there the network would only become sure of some wrong class.

P is softmax(z / T) of the published network. So the last row is distillation (Hinton, Vinyals and
Dean, arXiv 1503.02531), at a temperature T of TEMPERATURE. It keeps what the network knows (Li and
Hoiem, "Learning without Forgetting", ECCV 2016).

A BrainProp network has reward estimates q. A thumb says the reward of one class, a label those of
all classes:

    loss = sum over the known classes of (r - q)^2 / 2
    at home, r are the published network's estimates of all classes

Targets of all kinds are arrays (N, 3, classes), so that one batch can hold all of them.
"""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from models.calibration import softmax
from models.learning.vote_arrays import UNKNOWN, Votes
from models.packaging.scoring import Logits

Targets = npt.NDArray[np.float32]  # (N, 3, classes)
REWARD = "reward estimates"  # the meaning of the outputs after BrainProp, as on the card
TEMPERATURE = 4.0  # of distillation at home
_EXCLUDED = 1e9  # larger than any output


def vote_targets(votes: Votes, classes: int, outputs: str) -> Targets:
    """Return the targets of `votes`. `outputs` is the meaning of the network's outputs."""
    count = len(votes)
    answered, labelled = (np.zeros((count, classes), np.float32) for _ in range(2))
    answered[np.arange(count), votes.answers] = 1
    known = votes.labels != UNKNOWN
    labelled[np.flatnonzero(known), votes.labels[known]] = 1
    rewards, known = votes.rewards[:, None], known[:, None]
    belongs = np.where(known, labelled, rewards * answered)
    if outputs == REWARD:
        told = np.where(known, np.ones_like(answered), answered)
    else:
        told = np.where(known, np.zeros_like(answered), (1 - rewards) * answered)
    return _stacked(belongs, told, np.zeros_like(answered))


def home_targets(published: Logits, outputs: str) -> Targets:
    """Return the targets that the published network's outputs (N, classes) are."""
    zeros = np.zeros_like(published)
    if outputs == REWARD:
        return _stacked(published, np.ones_like(published), zeros)
    return _stacked(zeros, zeros, softmax(published, TEMPERATURE))


def _stacked(*rows: npt.NDArray[np.float32]) -> Targets:
    return np.stack(rows, axis=1).astype(np.float32)


@keras.saving.register_keras_serializable(package="metaplastic")
class VoteLoss(keras.losses.Loss):
    """The loss of softmax networks above, of targets (N, 3, classes) and logits (N, classes).

    `sure` is the weight of the entropy of the other classes after a thumb down, 0 or more.
    """

    def __init__(self, sure: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.sure = sure

    def get_config(self) -> dict[str, Any]:
        """Return what this loss can be made from again."""
        return {**super().get_config(), "sure": self.sure}

    def call(self, targets: Any, logits: Any) -> Any:
        """Return the loss (N,) of each image."""
        belongs, excluded, taught = targets[:, 0], targets[:, 1], targets[:, 2]
        likely = -ops.sum(belongs * ops.log_softmax(logits, axis=-1), axis=-1)
        others = logits - _EXCLUDED * excluded
        unlikely = ops.logsumexp(logits, axis=-1) - ops.logsumexp(others, axis=-1)
        shares = (1 - excluded) * ops.softmax(others, axis=-1)
        unsure = -ops.sum(shares * ops.log_softmax(others, axis=-1), axis=-1)
        unsure *= ops.sum(excluded, axis=-1)  # of thumbs down alone
        soft = -ops.sum(taught * ops.log_softmax(logits / TEMPERATURE, axis=-1), axis=-1)
        return likely + unlikely + self.sure * unsure + TEMPERATURE**2 * soft


@keras.saving.register_keras_serializable(package="metaplastic")
class RewardLoss(keras.losses.Loss):
    """The loss of BrainProp networks above, of targets (N, 3, classes) and estimates q."""

    def call(self, targets: Any, q: Any) -> Any:
        """Return the loss (N,) of each image."""
        rewards, known = targets[:, 0], targets[:, 1]
        return ops.sum(known * ops.square(rewards - q), axis=-1) / 2
