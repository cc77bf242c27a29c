"""Distillation: a network learns from a teacher's soft answers beside the labels.

    soft = mean over teachers of softmax(outputs / (T_teacher * T))
    loss = (1 - weight) * loss(labels, z) + weight * T^2 * cross_entropy(soft, softmax(z / T))

z are the learning network's logits, T the recipe's `teacher_temperature`, and T_teacher the
calibrated temperature of each teacher's card, so that logits and reward estimates may answer
together. T^2 keeps the gradient's size (Hinton, Vinyals and Dean, arXiv 1503.02531). Teachers see
the very images that the network learns from, after their augmentation (Beyer et al., CVPR 2022).
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from models.calibration import softmax
from models.cards import KERAS_MODEL, Card, CardError, Teacher, checksum, read_card
from models.errors import MetaplasticError
from models.plasticity.brainprop import AnswerAccuracy
from models.plasticity.learning import Learning, Rows
from models.training.fast_clone import fast_clone
from models.training.recipes import Recipe


class TeacherError(MetaplasticError):
    """A teacher that cannot teach: says which and why."""


def distilled(plain: Learning, recipe: Recipe) -> Learning:
    """Return `plain` with the recipe's share of its teachers' answers in the loss.

    Without teachers that is `plain` itself. With them, targets are pairs (N, 2, classes) of labels
    and soft answers; for validation, where no teacher is asked, the labels stand for both.
    """
    if not recipe.teachers:
        return plain

    def targets(labels: Rows, random: np.random.Generator | None) -> Any:
        return labels if random is not None else np.stack([labels, labels], axis=1)

    loss = DistillationLoss(plain.loss, recipe.teacher_weight, recipe.teacher_temperature)
    accuracy = AnswerAccuracy(name="accuracy")
    return dataclasses.replace(plain, loss=loss, targets=targets, accuracy=accuracy)


@keras.saving.register_keras_serializable(package="metaplastic")
class DistillationLoss(keras.losses.Loss):
    """The loss above, of pairs (N, 2, classes), labels and soft answers, and logits."""

    def __init__(
        self, labels_loss: keras.losses.Loss, weight: float, temperature: float, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.labels_loss, self.weight, self.temperature = labels_loss, weight, temperature

    def call(self, pairs: Any, logits: Any) -> Any:
        """The loss of each image, (N,)."""
        labels, soft = pairs[:, 0], pairs[:, 1]
        hard = self.labels_loss.call(labels, logits)
        log_probabilities = ops.log_softmax(logits / self.temperature, axis=-1)
        taught = -ops.sum(soft * log_probabilities, axis=-1)
        return (1 - self.weight) * hard + self.weight * self.temperature**2 * taught

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes it again from."""
        loss = keras.saving.serialize_keras_object(self.labels_loss)
        own = {"labels_loss": loss, "weight": self.weight, "temperature": self.temperature}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DistillationLoss":
        """The loss that `get_config` describes."""
        loss = keras.saving.deserialize_keras_object(config["labels_loss"])
        return cls(**{**config, "labels_loss": loss})


def teachers_of(recipe: Recipe, dataset: str) -> tuple[Teacher, ...]:
    """Return what a card says of the recipe's teachers. Raises TeacherError."""
    return tuple(
        Teacher(
            name=card.name,
            version=card.version,
            sha256=checksum(folder / KERAS_MODEL),
            validation_accuracy=card.validation.accuracy,
            test_accuracy=card.test.accuracy if card.test else None,
        )
        for folder, card in _cards(recipe.teachers, dataset)
    )


def teacher(recipe: Recipe, dataset: str) -> Callable[[npt.NDArray[np.float32]], Rows] | None:
    """Return what answers images (N, height, width, channels) in 0..1 by soft labels (N, classes).

    None without teachers. They compute in the recipe's precision; one that averages over an image
    and its mirror image answers the image alone, at half the cost. Raises TeacherError.
    """
    if not recipe.teachers:
        return None
    networks = [
        (_network(folder, recipe.precision), card.calibration.temperature)
        for folder, card in _cards(recipe.teachers, dataset)
    ]

    def answer(images: npt.NDArray[np.float32]) -> Rows:
        answers = [
            softmax(network.predict_on_batch(images), own * recipe.teacher_temperature)
            for network, own in networks
        ]
        soft: Rows = np.mean(answers, axis=0, dtype=np.float32)
        return soft

    return answer


def _network(folder: Path, precision: str) -> keras.Model:
    network = keras.saving.load_model(folder / KERAS_MODEL, compile=False)
    inner = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    return fast_clone(inner[0] if inner else network, precision)


def _cards(folders: Sequence[str], dataset: str) -> list[tuple[Path, Card]]:
    found = []
    for folder in map(Path, folders):
        try:
            card = read_card(folder)
        except CardError as error:
            raise TeacherError(
                f"{folder} is no teacher: expected a finished run or a published model ({error})"
            ) from error
        if card.dataset != dataset:
            raise TeacherError(f"{folder} is no teacher for {dataset}: it knows {card.dataset}")
        if not (folder / KERAS_MODEL).exists():
            raise TeacherError(f"{folder} is no teacher: it holds no {KERAS_MODEL}")
        found.append((folder, card))
    return found
