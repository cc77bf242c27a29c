"""Images from home: what a model was trained on, so that it does not forget.

They come from the data set, where METAPLASTIC_DATA has it, or from `home.npz` beside the model:

    images              uint8 (1,000, height, width, channels) of the training split
    validation_images   the validation split, by which a challenger is calibrated and judged
    validation_labels

`write_home` makes that file for a learner without the data set. It holds pictures of the data set,
so it is made only where their licence allows to pass them on. It never becomes part of this
repository.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.cards import Card
from models.data.datasets import DATASETS, Images, Labels, load
from models.data.storage import select
from models.errors import MetaplasticError

HOME = "home.npz"
MOST_IMAGES = 60_000  # of the training split; more make no difference to a few thousand steps
PACKED = 1000  # training images in home.npz
LICENCES = {"mnist": "CC BY-SA 3.0", "fashion-mnist": "MIT"}  # of built-in data sets


class HomeError(MetaplasticError):
    """Images from home that cannot be read or passed on."""


@dataclass(frozen=True)
class Home:
    """Images of the data set that a model was trained on."""

    source: str  # where they come from, for the card
    images: Images | None = None  # uint8 (N, height, width, channels), of the training split
    validation: tuple[Images, Labels] | None = None


def find_home(published: Path, card: Card) -> Home:
    """Return the images from home of the model `card` in the folder `published`.

    Raises DataError for a data set that is there but cannot be read, and HomeError for such a
    home.npz.
    """
    if _is_there(card.dataset):
        (images, _), validation = load(card.dataset).split(
            card.need_training().recipe["validation"]
        )
        return Home(f"{len(images)} training images", _some(images, MOST_IMAGES), validation)
    path = published / HOME
    if not path.exists():
        return Home("none")
    try:
        with np.load(path, allow_pickle=False) as stored:
            images, pictures, labels = (stored[name] for name in _ARRAYS)
    except (OSError, KeyError, ValueError) as error:
        raise HomeError(
            f"{path} must hold the arrays {', '.join(_ARRAYS)} ({error}); "
            f"`python -m models learn {card.endpoint} --pack-home` makes it"
        ) from error
    return Home(f"{len(images)} images of {HOME}", images, (pictures, labels))


def write_home(published: Path, card: Card) -> Path:
    """Write home.npz into the folder `published` of the model `card`, and return its path.

    Raises HomeError for a data set whose pictures may not be passed on, and DataError.
    """
    if card.dataset in DATASETS and card.dataset not in LICENCES:
        raise HomeError(
            f"{card.dataset} has no licence that allows to pass its pictures on (that have: "
            f"{', '.join(LICENCES)}). Set METAPLASTIC_DATA where the learner runs"
        )
    (images, _), (pictures, labels) = load(card.dataset).split(
        card.need_training().recipe["validation"]
    )
    path = published / HOME
    partial = published / f".{HOME}.partial"
    with partial.open("wb") as file:
        np.savez_compressed(
            file,
            images=_some(images, PACKED)[:],
            validation_images=pictures[:],
            validation_labels=labels,
        )
    return partial.replace(path)


_ARRAYS = ("images", "validation_images", "validation_labels")


def _is_there(dataset: str) -> bool:
    """Return whether the data set is on this computer: the learner downloads nothing."""
    if dataset not in DATASETS:
        return True
    folder = os.environ.get("METAPLASTIC_DATA")
    module = DATASETS[dataset].module
    return bool(folder and module and (Path(folder) / f"{module}.npz").exists())


def _some(images: Images, most: int) -> Images:
    """Return up to `most` images, drawn evenly: always the same ones."""
    if len(images) <= most:
        return images
    return select(images, np.sort(np.random.default_rng(0).permutation(len(images))[:most]))


def _split(card: Card) -> tuple[tuple[Images, Labels], tuple[Images, Labels]]:
    """Return the training and the validation images of a model's training. Raises DataError."""
    return load(card.dataset).split(card.need_training().recipe["validation"])
