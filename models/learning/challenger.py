"""Make a challenger: a new version of a model that has learned from votes."""

import dataclasses
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.architectures.flip_average import network_of
from models.cards import (
    KERAS_MODEL,
    Card,
    Learned,
    checksum,
    checksums,
    find_models,
    write_card,
)
from models.errors import MetaplasticError
from models.learning.home import Home
from models.learning.learner import Lessons, Settings, learn
from models.learning.lessons import vote_targets
from models.learning.vote_arrays import UNKNOWN, Votes
from models.packaging.export import agreement, export, keras_logits
from models.packaging.half_precision import compact_keras, round_weights
from models.packaging.plots import draw_confusion
from models.packaging.running import onnx_logits
from models.packaging.scoring import calibrate, score
from models.training.hardware import backend_name, hardware


class LearnError(MetaplasticError):
    """Something that cannot be learned or judged. The message says why and what to do."""


def published_version(folder: Path) -> tuple[Path, Card]:
    """Return the newest version below `folder` that was published, and its card.

    Challengers are not published versions: they have learned from votes. Raises LearnError if there
    is none.
    """
    found = [(path, card) for path, card in find_models(folder) if card.learned is None]
    if not found:
        raise LearnError(f"{folder} holds no published version to start from")
    return max(found, key=lambda one: one[1].version)


def make_challenger(
    folder: Path,
    votes: Votes,
    weights: Any,
    home: Home,
    settings: Settings,
) -> Path:
    """Learn from `votes` and write the result as the newest version below `folder`. Return
    its path.

    `folder` is that of a model's versions. Its published version learns, never an earlier
    challenger. `weights` (N,) are those of the votes. The version
    appears complete, by one rename. Raises LearnError,
    CardError or ExportError, and then leaves the versions as they were.
    """
    parent, card = published_version(folder)
    model = keras.saving.load_model(parent / KERAS_MODEL, compile=False)
    lessons = Lessons(
        votes.images,
        vote_targets(votes, len(card.labels), card.need_calibration().outputs),
        np.asarray(weights, np.float32),
    )
    learned = learn(model, lessons, home.images, settings, card.need_calibration().outputs)
    (network_of(model) or model).set_weights(learned)
    round_weights(model)
    version = 1 + max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
    staging = folder / f".learning-{version}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        model.save(staging / KERAS_MODEL)
        compact_keras(staging / KERAS_MODEL)
        export(staging)
        card = dataclasses.replace(
            _measured(card, version, staging, home),
            learned=Learned(
                parent=card.version,
                parent_sha256=checksum(parent / KERAS_MODEL),
                votes=len(votes),
                labels=int((votes.labels != UNKNOWN).sum()),
                days=(_day(votes.times.min()), _day(votes.times.max())),
                home=home.source,
                settings=dataclasses.asdict(settings),
            ),
        )
        write_card(staging, card)
        return staging.rename(folder / str(version))
    except OSError as error:
        raise LearnError(
            f"{folder}: the challenger cannot be written ({error}); nothing has changed"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _measured(card: Card, version: int, folder: Path, home: Home) -> Card:
    """Return the card of the network in `folder`, measured on the validation split.

    Without that split the figures are those of the parent, whose calibration still holds where the
    network has hardly moved.
    """
    card = dataclasses.replace(
        card,
        version=version,
        files=checksums(folder),
        test=None,  # no choice is made on the test set, and challengers are many
        control=None,
        corrupted=None,
        int8=None,
        training=dataclasses.replace(
            card.need_training(),
            hardware=hardware(),
            backend=backend_name(),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
    )
    if home.validation is None:
        return card
    images, labels = home.validation
    logits = keras_logits(folder, images)
    fitted = calibrate(logits, home.validation, card.need_calibration().outputs)
    agreement(logits, onnx_logits(folder, images), fitted.temperature).check()
    scores = score(logits, labels)
    title = f"{card.name} v{version}: {scores.accuracy:.2%} of {scores.images} validation images"
    draw_confusion(scores, card.labels, title, folder / "confusion.png")
    return dataclasses.replace(card, calibration=fitted, validation=scores)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(float(seconds), UTC).date().isoformat()
