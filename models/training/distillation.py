"""Distillation: a network learns from the soft labels of teachers as well as from the labels.

    soft = mean over teachers of softmax(outputs / (T_teacher * T))
    loss = (1 - weight) * loss(labels, z) + weight * T^2 * cross_entropy(soft, softmax(z / T))

z are the logits of the network that learns. T is the `teacher_temperature` of the recipe. T_teacher
is the calibrated temperature on the card of each teacher. It makes logits and reward estimates
comparable. The factor T^2 keeps the size of the gradient (Hinton, Vinyals and Dean, arXiv
1503.02531). Teachers classify the same augmented images that the network learns from (Beyer et al.,
CVPR 2022).
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
    """A teacher that cannot be used. The message names it and the reason."""


def distilled(learning: Learning, recipe: Recipe) -> Learning:
    """Return `learning` with the soft labels of the recipe's teachers in the loss.

    Without teachers, return `learning` itself. With teachers, targets are pairs (N, 2, classes) of
    labels and soft labels. For validation no teacher is asked, and the labels take both places.
    """
    if not recipe.teachers:
        return learning

    def targets(labels: Rows, random: np.random.Generator | None) -> Any:
        return labels if random is not None else np.stack([labels, labels], axis=1)

    loss = DistillationLoss(learning.loss, recipe.teacher_weight, recipe.teacher_temperature)
    accuracy = AnswerAccuracy(name="accuracy")
    return dataclasses.replace(learning, loss=loss, targets=targets, accuracy=accuracy)


@keras.saving.register_keras_serializable(package="metaplastic")
class DistillationLoss(keras.losses.Loss):
    """The loss above, of pairs (N, 2, classes) of labels and soft labels, and logits."""

    def __init__(
        self, labels_loss: keras.losses.Loss, weight: float, temperature: float, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.labels_loss, self.weight, self.temperature = labels_loss, weight, temperature

    def call(self, pairs: Any, logits: Any) -> Any:
        """Return the loss (N,) of each image."""
        labels, soft = pairs[:, 0], pairs[:, 1]
        hard = self.labels_loss.call(labels, logits)
        log_probabilities = ops.log_softmax(logits / self.temperature, axis=-1)
        taught = -ops.sum(soft * log_probabilities, axis=-1)
        return (1 - self.weight) * hard + self.weight * self.temperature**2 * taught

    def get_config(self) -> dict[str, Any]:
        """Return the configuration for `from_config`."""
        loss = keras.saving.serialize_keras_object(self.labels_loss)
        own = {"labels_loss": loss, "weight": self.weight, "temperature": self.temperature}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DistillationLoss":
        """Return the loss with a configuration from `get_config`."""
        loss = keras.saving.deserialize_keras_object(config["labels_loss"])
        return cls(**{**config, "labels_loss": loss})


def teachers_of(recipe: Recipe, dataset: str) -> tuple[Teacher, ...]:
    """Return the teachers of a recipe as a card names them.

    Raises TeacherError for a teacher that is missing, broken or of another data set.
    """
    return tuple(
        Teacher(
            name=card.name,
            version=card.version,
            sha256=checksum(folder / KERAS_MODEL),
            validation_accuracy=card.need_validation().accuracy,
            test_accuracy=card.test.accuracy if card.test else None,
        )
        for folder, card in _cards(recipe.teachers, dataset)
    )


def teacher(recipe: Recipe, dataset: str) -> Callable[[npt.NDArray[np.float32]], Rows] | None:
    """Return a function from images in 0..1 to soft labels (N, classes).

    Return None if the recipe has no teachers. Teachers compute in the precision of the recipe. A
    teacher with flip averaging uses a single pass here, which costs half as much.

    Raises TeacherError for a teacher that is missing, broken or of another data set.
    """
    if not recipe.teachers:
        return None
    networks = [
        (_network(folder, recipe.precision), card.need_calibration().temperature)
        for folder, card in _cards(recipe.teachers, dataset)
    ]

    def soft_labels(images: npt.NDArray[np.float32]) -> Rows:
        outputs = [
            softmax(network.predict_on_batch(images), own * recipe.teacher_temperature)
            for network, own in networks
        ]
        soft: Rows = np.mean(outputs, axis=0, dtype=np.float32)
        return soft

    return soft_labels


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
                f"{folder} cannot teach: expected a finished run or a published model ({error})"
            ) from error
        if card.dataset != dataset:
            raise TeacherError(f"{folder} cannot teach {dataset}: it was trained on {card.dataset}")
        if not (folder / KERAS_MODEL).exists():
            raise TeacherError(f"{folder} cannot teach: it has no {KERAS_MODEL}")
        found.append((folder, card))
    return found
