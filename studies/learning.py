"""Measure what a published network learns from votes on shifted pictures, and what it forgets.

Simulated users send pictures of a data set that are shifted (shifts.py). The network answers, and
the users say whether each answer is right, or which class is. The network learns from these votes
as a challenger does (models/learning/). Pictures with votes come from the validation split, which
the published network has not learned from.

Under a condition of two shifts, the network first learns one and then, from where it is, the other.
"""

import dataclasses
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.architectures.flip_average import network_of
from models.cards import KERAS_MODEL, Card, read_card
from models.data.datasets import Labels, scaled
from models.learning.learner import Lessons, Part, Protection, Settings, learn
from models.learning.lessons import vote_targets
from models.learning.statistics import Booleans
from models.learning.vote_arrays import NONE, UNKNOWN, Votes
from models.packaging.scoring import Logits
from models.training.hardware import backend_name, hardware
from studies.learning_groups import FEW, THEN, TUNING
from studies.plan import BASELINE
from studies.results import Trial, TrialResult
from studies.shifts import SHIFTS, TUNING_SHIFTS, Pixels
from studies.training import arrays_of

PUBLISHED = {
    ("mnist", "lenet"): Path("weights/mnist/lenet/metaplastic/4"),
    ("mnist", "conv"): Path("weights/mnist/conv/brainprop/1"),
    ("fashion-mnist", "lenet"): Path("weights/fashion-mnist/lenet/metaplastic/1"),
    ("cifar10", "vgg"): Path("weights/cifar10/vgg/metaplastic/1"),
}
HOME = "home"  # instead of a shift: the pictures as they are
MOST_VOTES = 2000  # the pictures beyond these are never voted on
_KEPT: dict[tuple[Any, ...], Booleans] = {}  # what the published networks answer


@dataclass(frozen=True)
class Learner:
    """How a rule of the study learns. The strength of a trial is that of `rule`, else of home."""

    home: bool = False
    labels: bool = False  # users give the right class; otherwise thumbs
    rule: Protection = "none"
    part: Part = "all"


LEARNERS: Mapping[str, Learner] = {
    BASELINE: Learner(),
    "first layers": Learner(part="first"),
    "last layer": Learner(part="last"),
    "consolidating": Learner(rule="consolidating"),
    "synaptic intelligence": Learner(rule="synaptic intelligence"),
    "l2": Learner(rule="l2"),
    "labels": Learner(labels=True),
    "home": Learner(home=True),
    "home, consolidating": Learner(home=True, rule="consolidating"),
    "home, labels": Learner(home=True, labels=True),
}


def learn_from_votes(trial: Trial, folder: Path) -> TrialResult:
    """Carry out one trial. It takes about a minute, and leaves nothing in `folder` if stopped.

    The test set is read for reported trials alone.
    """
    model, card = _published(trial)
    arrays = arrays_of(trial.dataset)
    (home, _), validation = arrays.split(card.need_training().recipe["validation"])
    order = np.random.default_rng((trial.seed, 3)).permutation(len(validation[0]))
    voted, rest = order[:MOST_VOTES], order[MOST_VOTES:]
    pictures, classes = validation[0][:], validation[1]
    if trial.purpose == "report":
        tests = arrays.x_test[:], arrays.y_test
    else:
        tests = pictures[rest], classes[rest]
    stages = _stages(trial.condition)
    shown = [*stages, HOME]
    seed = 0 if trial.purpose == "report" else trial.seed  # the test images are the same for all
    place = trial.dataset, trial.architecture, trial.purpose, seed
    published = [_right(model, stage, tests, place) for stage in shown]
    started = time.process_time()
    for stage in stages:
        given = _shifted(stage, pictures[voted[: trial.images]])
        votes = _votes(model, given, classes[voted[: trial.images]], trial)
        needs_home = LEARNERS[trial.rule].home or trial.rule == "synaptic intelligence"
        _learn(model, card, votes, home[:] if needs_home else None, trial)
    seconds = time.process_time() - started
    learned = [_right(model, stage, tests) for stage in shown]
    before, after = ([float(right.mean()) for right in each] for each in (published, learned))
    figures: dict[str, Any] = {} if trial.purpose == "report" else {"validation": _balance(after)}
    figures |= {
        "test": after[-2],  # on the last shift
        "before": before[-2],
        "test_home": after[-1],
        "before_home": before[-1],
        "lost": int((published[-1] & ~learned[-1]).sum()),  # home images, from right to wrong
        "gained": int((learned[-1] & ~published[-1]).sum()),
        "seconds": seconds,
        "backend": backend_name(),
        "hardware": hardware(),
    }
    if len(stages) > 1:
        figures |= {"test_first": after[0], "before_first": before[0]}
    print(
        f"  {before[-2]:.4f} -> {after[-2]:.4f}, home {after[-1]:.4f}", file=sys.stderr, flush=True
    )
    return TrialResult(figures, [])


def _learn(model: keras.Model, card: Card, votes: Votes, home: Pixels | None, trial: Trial) -> None:
    learner = LEARNERS[trial.rule]
    settings = Settings(rate=trial.learning_rate, seed=trial.seed)
    steps = trial.epochs * -(-len(votes) // settings.batch)
    settings = dataclasses.replace(settings, steps=steps)
    if learner.rule != "none":
        settings = dataclasses.replace(settings, rule=learner.rule, strength=trial.strength)
    if not learner.home:
        settings = dataclasses.replace(settings, home=0.0)
    elif learner.rule == "none":
        settings = dataclasses.replace(settings, home=trial.strength)
    settings = dataclasses.replace(settings, part=learner.part)
    outputs = card.need_calibration().outputs
    lessons = Lessons(
        votes.images,
        vote_targets(votes, len(card.labels), outputs),
        np.ones(len(votes), np.float32),
    )
    weights = learn(model, lessons, home, settings, outputs)
    (network_of(model) or model).set_weights(weights)


def _votes(model: keras.Model, pictures: Pixels, classes: Labels, trial: Trial) -> Votes:
    """Return what users say about the answers of `model` to `pictures` of these classes."""
    answers, count = _answers(model, pictures), len(pictures)
    labels = classes if LEARNERS[trial.rule].labels else np.full(count, UNKNOWN)
    return Votes(
        images=pictures,
        answers=answers,
        rewards=(answers == classes).astype(np.float32),
        labels=labels,
        keys=np.full(count, "user"),
        times=np.arange(count, dtype=np.float64),
        versions=np.ones(count, np.int64),
        admins=np.zeros(count, np.bool_),
        challengers=np.full(count, NONE),
        disputed=np.zeros(count, np.bool_),
        canary=np.zeros(count, np.bool_),
    )


def _stages(condition: str) -> tuple[str, ...]:
    return tuple(condition.removeprefix(FEW).split(THEN))


def _shifted(stage: str, pictures: Pixels) -> Pixels:
    if stage == HOME:
        return pictures
    if stage != TUNING:
        return SHIFTS[stage](pictures)
    one, other = TUNING_SHIFTS.values()
    half = len(pictures) // 2
    return np.concatenate([one(pictures[:half]), other(pictures[half:])])


def _right(
    model: keras.Model, stage: str, tests: tuple[Pixels, Labels], kept_as: tuple[Any, ...] = ()
) -> Booleans:
    """Return which test images (N,) `model` answers rightly under the shift `stage`, or at HOME.

    With `kept_as`, the answers are kept for later calls with the same name.
    """
    key = *kept_as, stage
    if kept_as and key in _KEPT:
        return _KEPT[key]
    images, labels = tests
    right: Booleans = _answers(model, _shifted(stage, images)) == labels
    if kept_as:
        _KEPT[key] = right
    return right


def _balance(accuracies: list[float]) -> float:
    """Return the mean of the accuracies on shifted images and at home: it chooses constants."""
    return (accuracies[-2] + accuracies[-1]) / 2


def _answers(model: keras.Model, images: Pixels) -> Labels:
    parts = (images[start : start + 500] for start in range(0, len(images), 500))
    outputs: Logits = np.concatenate([model.predict_on_batch(scaled(part)) for part in parts])
    answers: Labels = outputs.argmax(axis=1)
    return answers


def _published(trial: Trial) -> tuple[keras.Model, Card]:
    folder = PUBLISHED[trial.dataset, trial.architecture]
    return keras.saving.load_model(folder / KERAS_MODEL, compile=False), read_card(folder)
