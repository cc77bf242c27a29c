"""Let a copy of a published network learn from votes, without forgetting what it knew.

Every step sees a batch of votes and a batch of images from home, the data set that the network was
trained on:

    loss = mean over votes of weight * loss(vote) + home * mean over home images of loss(image)

The losses are those of lessons.py. Without home images, a rule protects the weights instead:

    consolidating           large weights resist a step that would shrink them (metaplastic.py)
    synaptic intelligence   weights that mattered at home pay for moving (synaptic_intelligence.py)
    l2                      all weights pay for moving

The averages of batch normalisation stay fixed, dropout is off, and images are not augmented. The
weights end inside a ball around the published ones, so that no votes move them further. The result
depends on the arguments alone.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt

from models.architectures.flip_average import network_of
from models.data.datasets import Images, scaled
from models.learning.lessons import REWARD, RewardLoss, Targets, VoteLoss, home_targets
from models.plasticity.learning import Learning
from models.plasticity.metaplastic import metaplastic
from models.plasticity.synaptic_intelligence import SynapticIntelligence
from models.training.fast_clone import fast_clone

Protection = Literal["none", "consolidating", "synaptic intelligence", "l2"]
Part = Literal["all", "first", "last"]
_IMPORTANCE = 10_000  # home images on which Synaptic Intelligence measures importance


@dataclass(frozen=True)
class Settings:
    """How a network learns from votes. docs/learning.md says how they were chosen."""

    steps: int = 256
    rate: float = 2e-3  # of Adam, at the start; a cosine leads to 0
    batch: int = 64  # votes in a step
    home: float = 3.0  # weight of the home term; 0: without
    home_batch: int = 128  # home images in a step
    sure: float = 1.0  # weight of the entropy after a thumb down, beside home images
    rule: Protection = "none"
    strength: float = 0.0  # of the rule
    part: Part = "all"  # the layers that learn
    farthest: float = 0.25  # length of the move, as a share of the length of the weights
    seed: int = 0


# Of networks that estimate rewards: at a higher rate they learn less and lose more at home.
REWARD_SETTINGS: Mapping[str, Any] = {"rate": 3e-4, "home": 10.0}


class Still(keras.Model):
    """A network that learns as it answers: with fixed averages and without dropout.

    `training=False` is said at each call, because training overrules it in a functional model.
    """

    def __init__(self, network: keras.Model) -> None:
        super().__init__()
        self.network = network

    def call(self, images: Any) -> Any:
        """Return the outputs of the network, as in a test."""
        return self.network(images, training=False)


@dataclass(frozen=True)
class Lessons:
    """Images and what to learn from each of them."""

    images: Images  # uint8 (N, height, width, channels)
    targets: Targets  # (N, 3, classes)
    weights: npt.NDArray[np.float32]  # (N,), mean 1


def learn(
    published: keras.Model,
    votes: Lessons,
    home: Images | None,
    settings: Settings,
    outputs: str,
) -> list[Any]:
    """Return the weights of `published` after learning, in the order of its `get_weights()`.

    `published` is not changed. `home` are uint8 images, or None. `outputs` is the meaning of the
    network's outputs, as on its card. Raises ValueError for Synaptic Intelligence without home
    images, which it measures importance on.
    """
    keras.utils.set_random_seed(settings.seed)
    network = network_of(published) or published
    clone = fast_clone(network, "float32")
    start = clone.get_weights()
    still = Still(clone)
    still.build((None, *network.input_shape[1:]))
    let_learn(clone, settings.part)
    taught = None if home is None else _home_lessons(network, home, outputs)
    optimizer = _optimizer(settings)
    beside = taught if settings.home else None
    sure = 0.0 if beside is None else settings.sure
    loss = RewardLoss() if outputs == REWARD else VoteLoss(sure)
    if isinstance(optimizer, SynapticIntelligence):
        importances = _importances(still, taught, settings, loss)
        clone.set_weights(start)
        optimizer.build(still.trainable_variables)
        optimizer.remember(importances)
    still.compile(optimizer, loss)
    for batch in _batches(votes, beside, settings):
        still.train_on_batch(*batch)
    return within(start, clone.get_weights(), settings.farthest)


def let_learn(network: keras.Model, part: Part) -> None:
    """Let `part` of the layers of `network` learn, and no others.

    The first block is the first layer with a kernel and what follows up to the next one.
    """
    places = [place for place, layer in enumerate(network.layers) if hasattr(layer, "kernel")]
    first, last = {"all": (0, None), "first": (0, places[1]), "last": (places[-1], None)}[part]
    learning = network.layers[first:last]
    for layer in network.layers:
        layer.trainable = layer in learning


def within(start: Sequence[Any], end: Sequence[Any], farthest: float) -> list[Any]:
    """Return `end`, or the nearest weights to it whose distance from `start` is not too long.

    The longest distance is `farthest` times the length of `start`. Lengths are Euclidean, over all
    kernels together (arrays of two or more axes).
    """
    pairs = list(zip(start, end, strict=True))
    length = math.sqrt(sum(float(np.square(a).sum()) for a in start if a.ndim > 1))
    moved = math.sqrt(sum(float(np.square(b - a).sum()) for a, b in pairs if a.ndim > 1))
    share = min(1.0, farthest * length / moved) if moved else 1.0
    return list(end) if share == 1 else [a + np.float32(share) * (b - a) for a, b in pairs]


def _home_lessons(network: keras.Model, home: Images, outputs: str) -> Lessons:
    parts = (home[i : i + 500] for i in range(0, len(home), 500))
    answers = np.concatenate([network.predict_on_batch(scaled(part)) for part in parts])
    return Lessons(home, home_targets(answers, outputs), np.ones(len(home), np.float32))


def _optimizer(settings: Settings) -> keras.optimizers.Optimizer:
    rate = keras.optimizers.schedules.CosineDecay(settings.rate, settings.steps)
    base = Learning(keras.optimizers.Adam(rate))
    if settings.rule == "consolidating":
        return metaplastic(base, rule="consolidating", strength=settings.strength).optimizer
    if settings.rule in ("synaptic intelligence", "l2"):
        return SynapticIntelligence(base.optimizer, settings.strength)
    return base.optimizer


def _importances(
    still: keras.Model, home: Lessons | None, settings: Settings, loss: keras.losses.Loss
) -> list[Any]:
    """Return the importance of each weight that learns: 1 for L2, else measured at home.

    Synaptic Intelligence adds up what each step of a training gains. The steps of the published
    training are over, so one more pass over the home images takes their place. It learns the
    network's own answers as if they were labels.
    """
    variables = still.trainable_variables
    if settings.rule == "l2":
        return [np.ones(variable.shape, np.float32) for variable in variables]
    if home is None:
        raise ValueError("rule: Synaptic Intelligence measures importance on home images")
    measured = SynapticIntelligence(keras.optimizers.Adam(settings.rate))
    still.compile(measured, loss)
    measured.build(variables)
    own = (home.targets[:, 0] + home.targets[:, 2]).argmax(axis=1)
    targets = np.zeros_like(home.targets)
    targets[np.arange(len(own)), 0, own] = 1
    targets[:, 1] = home.targets[:, 1]  # of reward estimates, all are known
    some = np.random.default_rng(settings.seed).permutation(len(own))[:_IMPORTANCE]
    lessons = Lessons(home.images[some], targets[some], home.weights[some])
    alone = dataclasses.replace(settings, steps=-(-len(some) // settings.batch))
    for batch in _batches(lessons, None, alone):
        still.train_on_batch(*batch)
    measured.end_task()
    return measured.importances


def _batches(
    votes: Lessons, home: Lessons | None, settings: Settings
) -> Iterator[tuple[Any, Any, Any]]:
    """Yield (images, targets, weights) of each step: votes and images from home."""
    random = np.random.default_rng(settings.seed)
    turns = _in_turn(len(votes.images), settings.batch, random)
    beside = _in_turn(len(home.images), settings.home_batch, random) if home is not None else None
    for _ in range(settings.steps):
        chosen = next(turns)
        images, targets = scaled(votes.images[chosen]), votes.targets[chosen]
        weights = votes.weights[chosen]
        if home is not None and beside is not None:
            at_home = next(beside)
            images = np.concatenate([images, scaled(home.images[at_home])])
            targets = np.concatenate([targets, home.targets[at_home]])
            # Keras divides by the size of the whole batch; each mean is over its own part.
            whole = len(chosen) + len(at_home)
            of_home = np.full(len(at_home), settings.home * whole / len(at_home), np.float32)
            weights = np.concatenate([weights * (whole / len(chosen)), of_home])
        yield images, targets, weights.astype(np.float32)


def _in_turn(count: int, batch: int, random: np.random.Generator) -> Iterator[Any]:
    """Yield places of `count` images, `batch` at a time, for ever, each as often as the others."""
    waiting = random.permutation(count)
    while True:
        while len(waiting) < min(batch, count):
            waiting = np.concatenate([waiting, random.permutation(count)])
        yield waiting[:batch]
        waiting = waiting[batch:]
