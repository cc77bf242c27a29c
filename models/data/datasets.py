"""The data sets: their images and labels, and where their arrays come from."""

import hashlib
import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.cards import ImageInput
from models.data import tiny_imagenet
from models.data.splits import hold_out
from models.data.storage import (
    DataError as DataError,
)
from models.data.storage import (
    DataSet as DataSet,
)
from models.data.storage import (
    Images as Images,
)
from models.data.storage import (
    Labels as Labels,
)
from models.data.storage import (
    checksum,
    data_folder,
    find_stored,
    open_splits,
    select,
    stored_names,
)
from models.quiet import import_keras


@dataclass(frozen=True)
class Arrays:
    """A data set. Every choice is made on `x_train` and `validation`; the test set is read once."""

    x_train: Images
    y_train: Labels
    x_test: Images
    y_test: Labels
    validation: tuple[Images, Labels] | None = None  # where the data set has a split of its own
    groups: Labels | None = None  # of x_train: equal for images that are nearly equal

    def sha256(self) -> str:
        """Return a checksum over all arrays' shapes and values."""
        digest = hashlib.sha256()
        checksum((self.x_train, self.y_train), digest)
        checksum((self.x_test, self.y_test), digest)
        if self.validation is not None:
            checksum(self.validation, digest)
        return digest.hexdigest()

    def split(self, validation: float) -> tuple[tuple[Images, Labels], tuple[Images, Labels]]:
        """(training, validation): the data set's own, or by `split` with this share."""
        if self.validation is not None:
            return (self.x_train, self.y_train), self.validation
        return split(self.x_train, self.y_train, validation, self.groups)


_CIFAR100 = """
apple, aquarium fish, baby, bear, beaver, bed, bee, beetle, bicycle, bottle, bowl, boy,
bridge, bus, butterfly, camel, can, castle, caterpillar, cattle, chair, chimpanzee,
clock, cloud, cockroach, couch, crab, crocodile, cup, dinosaur, dolphin, elephant,
flatfish, forest, fox, girl, hamster, house, kangaroo, keyboard, lamp, lawn mower,
leopard, lion, lizard, lobster, man, maple tree, motorcycle, mountain, mouse, mushroom,
oak tree, orange, orchid, otter, palm tree, pear, pickup truck, pine tree, plain, plate,
poppy, porcupine, possum, rabbit, raccoon, ray, road, rocket, rose, sea, seal, shark,
shrew, skunk, skyscraper, snail, snake, spider, squirrel, streetcar, sunflower, sweet
pepper, table, tank, telephone, television, tiger, tractor, train, trout, tulip, turtle,
wardrobe, whale, willow tree, wolf, woman, worm
"""

# Mean and standard deviation are those of the training images, values in 0..1 (of Tiny ImageNet as
# others give them).
DATASETS = {
    dataset.name: dataset
    for dataset in (
        DataSet(
            name="mnist",
            splits={"train": 60_000, "test": 10_000},
            module="mnist",
            labels=tuple("0123456789"),
            input=ImageInput(28, 28, 1, "digit", mean=(0.1307,), std=(0.3081,)),
        ),
        DataSet(
            name="fashion-mnist",
            splits={"train": 60_000, "test": 10_000},
            module="fashion_mnist",
            labels=(
                *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
                *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
            ),
            input=ImageInput(28, 28, 1, "garment", mean=(0.2860,), std=(0.3530,)),
        ),
        DataSet(
            name="cifar10",
            splits={"train": 50_000, "test": 10_000},
            module="cifar10",
            labels=(
                *("airplane", "automobile", "bird", "cat", "deer"),
                *("dog", "frog", "horse", "ship", "truck"),
            ),
            input=ImageInput(
                *(32, 32, 3, "photo"),
                mean=(0.4914, 0.4822, 0.4465),
                std=(0.2470, 0.2435, 0.2616),
            ),
        ),
        DataSet(
            name="cifar100",
            splits={"train": 50_000, "test": 10_000},
            module="cifar100",
            labels=tuple(" ".join(label.split()) for label in _CIFAR100.split(",")),
            input=ImageInput(
                *(32, 32, 3, "photo"),
                mean=(0.5071, 0.4865, 0.4409),
                std=(0.2673, 0.2564, 0.2762),
            ),
        ),
        DataSet(
            name="tiny-imagenet",
            splits={"train": 100_000, "test": 10_000},
            labels=tuple(tiny_imagenet.classes().values()),
            input=ImageInput(
                *(tiny_imagenet.SIDE, tiny_imagenet.SIDE, 3, "photo"),
                mean=(0.4802, 0.4481, 0.3975),
                std=(0.2770, 0.2691, 0.2821),
            ),
        ),
    )
}


def known_data_sets() -> list[DataSet]:
    """Return the built-in data sets, and those that were added."""
    added = [name for name in stored_names() if name not in DATASETS]
    return [dataset(name) for name in (*DATASETS, *added)]


def dataset(name: str) -> DataSet:
    """Return the data set called `name`. Raises DataError, with the names there are."""
    found = find_stored(name) or DATASETS.get(name)
    if found is None:
        names = ", ".join(dict.fromkeys((*DATASETS, *stored_names())))
        raise DataError(
            f"no data set is called {name!r}; there are: {names}. "
            f"A folder of pictures becomes one: python -m models data add {name} FOLDER"
        )
    return found


def load(name: str) -> Arrays:
    """Return the arrays of the data set `name`.

    Of one that was added, from its folder, where the images stay until they are asked for. Of a
    built-in one from `<METAPLASTIC_DATA>/<module>.npz` (arrays x_train, y_train, x_test, y_test;
    uint8 images N x H x W or N x H x W x C) where that variable is set, else downloaded by
    `keras.datasets`. Raises DataError where it cannot be had or the arrays are not what they should
    be.
    """
    wanted = dataset(name)
    if wanted.sha256:
        return _open(wanted, data_folder() / name)
    if not wanted.module:
        raise DataError(f"{name} is not there: `python -m models data add {name}` makes it")
    path = _file(wanted)
    arrays = _download(wanted) if path is None else _read(path, wanted)
    x_train, y_train, x_test, y_test = arrays
    return Arrays(
        *_checked(wanted, "train", x_train, y_train), *_checked(wanted, "test", x_test, y_test)
    )


def whereabouts(known: DataSet) -> str:
    """Where the arrays of a data set are, or how they are to be had. Reads none."""
    if known.sha256:
        return str(data_folder() / known.name)
    if not known.module:
        return f"not there: python -m models data add {known.name}"
    path = _file(known)
    if path is None:
        return "downloaded by keras.datasets when first used"
    return str(path) if path.exists() else f"not there: METAPLASTIC_DATA has no {path.name}"


def split(
    images: Images, labels: Labels, validation: float, groups: Labels | None = None
) -> tuple[tuple[Images, Labels], tuple[Images, Labels]]:
    """Return (training, validation). The share `validation` (0..1) of each class is held out.

    The split depends on nothing but the data and the share, so that runs with different seeds,
    rules and recipes are chosen on the same images. Images of one of the `groups` stay on one side.
    Raises DataError for a share outside 0..1 or one that leaves a class without an image on either
    side.
    """
    if not 0 < validation < 1:
        raise DataError(f"validation: expected a share between 0 and 1, found {validation!r}")
    held_out = hold_out(labels, validation, groups=groups)
    for label in np.unique(labels):
        members = held_out[labels == label]
        if not 0 < members.sum() < len(members):
            raise DataError(
                f"validation: a share of {validation} of {len(members)} images of class {label} "
                "leaves one side empty: set another one by --validation, or add pictures"
            )
    kept = ~held_out
    return (select(images, kept), labels[kept]), (select(images, held_out), labels[held_out])


def scaled(images: Images) -> npt.NDArray[np.float32]:
    """Return what every network here takes: float32 in 0..1."""
    return images[:].astype(np.float32) / np.float32(255)


def open_arrays(known: DataSet, folder: Path) -> Arrays:
    """Return the arrays of a data set that was written into `folder`. Raises DataError."""
    splits = open_splits(known, folder)
    (x_train, y_train, groups), (x_test, y_test, _) = splits["train"], splits["test"]
    x_val, y_val, _ = splits["val"]
    own = (x_val, y_val) if len(x_val) else None
    return Arrays(x_train, y_train, x_test, y_test, own, groups)


def _open(wanted: DataSet, folder: Path) -> Arrays:
    arrays = open_arrays(wanted, folder)
    if arrays.sha256() != wanted.sha256:
        raise DataError(
            f"{folder} has changed since it was added (SHA-256 differs): python -m models data "
            f"remove {wanted.name}, and add it again"
        )
    return arrays


def _file(wanted: DataSet) -> Path | None:
    """Return the file of a built-in data set; None where `keras.datasets` keeps it."""
    folder = os.environ.get("METAPLASTIC_DATA")
    return Path(folder) / f"{wanted.module}.npz" if folder else None


def _read(path: Path, wanted: DataSet) -> list[npt.NDArray[np.uint8]]:
    keys = ("x_train", "y_train", "x_test", "y_test")
    try:
        with np.load(path, allow_pickle=False) as stored:
            return [stored[key] for key in keys]
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}); METAPLASTIC_DATA must name a "
            f"folder with {path.name} (arrays {', '.join(keys)}), or be unset to download it"
        ) from error
    except (KeyError, ValueError) as error:
        raise DataError(f"{path} must hold the arrays {', '.join(keys)}: {error}") from error


def _download(wanted: DataSet) -> list[npt.NDArray[np.uint8]]:
    import_keras()
    try:
        source = importlib.import_module(f"keras.datasets.{wanted.module}")
        (x_train, y_train), (x_test, y_test) = source.load_data()
    except Exception as error:  # Keras raises a bare Exception when a download fails
        raise DataError(
            f"{wanted.name} could not be downloaded ({error}). Without internet access, put "
            f"{wanted.module}.npz (arrays x_train, y_train, x_test, y_test) into a folder and set "
            "METAPLASTIC_DATA to that folder."
        ) from error
    return [x_train, y_train, x_test, y_test]


def _checked(wanted: DataSet, part: str, x: Any, y: Any) -> tuple[Images, Labels]:
    shape = (wanted.input.height, wanted.input.width, wanted.input.channels)
    stored_shapes = {shape, shape[:2]} if wanted.input.channels == 1 else {shape}
    if x.dtype != np.uint8 or x.shape[1:] not in stored_shapes:
        raise DataError(
            f"{wanted.name}: x_{part} must be uint8 N x {' x '.join(map(str, shape))}, "
            f"found {x.dtype} {x.shape}"
        )
    labels = y.reshape(-1).astype(np.int64)
    classes = len(wanted.labels)
    if len(labels) != len(x) or not len(x) or labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"{wanted.name}: y_{part} must be {len(x)} labels in 0..{classes - 1}, "
            f"found {len(labels)}: {sorted(set(labels.tolist()))[:12]}"
        )
    return x.reshape(-1, *shape), labels
