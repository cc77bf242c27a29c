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
from models.errors import MetaplasticError
from models.quiet import import_keras

Images = npt.NDArray[np.uint8]  # (N, height, width, channels)
Labels = npt.NDArray[np.int64]  # (N,)


class DataError(MetaplasticError):
    """A data set that is missing or broken. The message says what to do."""


@dataclass(frozen=True)
class DataSet:
    """A data set as it is known before it is loaded."""

    name: str  # in folders, URLs and commands
    module: str  # `<module>.npz` in METAPLASTIC_DATA, and `keras.datasets.<module>` if it has one
    labels: tuple[str, ...]
    input: ImageInput


@dataclass(frozen=True)
class Arrays:
    """A data set in memory.

    Every choice is made on the training set. The test set is read once, when a model is published.
    """

    x_train: Images
    y_train: Labels
    x_test: Images
    y_test: Labels

    def sha256(self) -> str:
        """Return the SHA-256 of the shapes and values of all four arrays, in hexadecimal."""
        digest = hashlib.sha256()
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array, dtype=np.uint8).data)
        return digest.hexdigest()


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

_OURS = "tiny_imagenet"  # `keras.datasets` does not have this one

# Mean and standard deviation of the training images, for pixels in 0..1. Those of Tiny ImageNet are
# the values that are in common use.
DATASETS = {
    dataset.name: dataset
    for dataset in (
        DataSet(
            name="mnist",
            module="mnist",
            labels=tuple("0123456789"),
            input=ImageInput(28, 28, 1, "digit", mean=(0.1307,), std=(0.3081,)),
        ),
        DataSet(
            name="fashion-mnist",
            module="fashion_mnist",
            labels=(
                *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
                *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
            ),
            input=ImageInput(28, 28, 1, "garment", mean=(0.2860,), std=(0.3530,)),
        ),
        DataSet(
            name="cifar10",
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
            module="tiny_imagenet",
            labels=tuple(tiny_imagenet.classes().values()),
            input=ImageInput(
                *(tiny_imagenet.SIDE, tiny_imagenet.SIDE, 3, "photo"),
                mean=(0.4802, 0.4481, 0.3975),
                std=(0.2770, 0.2691, 0.2821),
            ),
        ),
    )
}


def dataset(name: str) -> DataSet:
    """Return the data set called `name`. Raises DataError for an unknown name."""
    if name not in DATASETS:
        raise DataError(f"no data set is called {name!r}; there are: {', '.join(DATASETS)}")
    return DATASETS[name]


def load(name: str) -> Arrays:
    """Return the arrays of the data set `name`.

    If METAPLASTIC_DATA is set, the file is `<METAPLASTIC_DATA>/<module>.npz` with the arrays
    x_train, y_train, x_test and y_test. Images are uint8, N x H x W or N x H x W x C. Otherwise
    `keras.datasets` downloads the arrays, except those of Tiny ImageNet, which `prepare` makes.

    Raises DataError for an unknown name, missing data, or arrays of another shape or type.
    """
    wanted = dataset(name)
    path = _stored(wanted)
    arrays = _download(wanted) if path is None else _read(path, wanted)
    x_train, y_train, x_test, y_test = arrays
    return Arrays(
        *_checked(wanted, "train", x_train, y_train), *_checked(wanted, "test", x_test, y_test)
    )


def whereabouts(name: str) -> str:
    """Return where the arrays of the data set `name` are, or how to get them."""
    wanted = dataset(name)
    path = _stored(wanted)
    if path is None:
        return "downloaded by keras.datasets at first use"
    if path.exists():
        return str(path)
    if wanted.module == _OURS:
        return f"missing: python -m models data {name}"
    return f"missing: METAPLASTIC_DATA has no {path.name}"


def prepare(name: str, archive: Path | None = None) -> None:
    """Prepare the data set `name` for `load`.

    Only Tiny ImageNet needs this. It is read from `archive` or downloaded, as
    models/data/tiny_imagenet.py explains. Raises DataError, DownloadError or ArchiveError.
    """
    wanted = dataset(name)
    path = _stored(wanted)
    if wanted.module != _OURS:
        if archive is not None:
            raise DataError(f"{name} is not read from an archive; only tiny-imagenet is")
    elif path is not None and (archive is not None or not path.exists()):
        tiny_imagenet.prepare(path, archive)


def split(
    images: Images, labels: Labels, validation: float
) -> tuple[tuple[Images, Labels], tuple[Images, Labels]]:
    """Return (training, validation). The share `validation` (0..1) of each class is held out.

    The split depends only on the data and the share, so that runs with different seeds, rules and
    recipes are compared on the same images. Raises ValueError for a share outside 0..1, and for one
    that leaves a class without images on one side.
    """
    if not 0 < validation < 1:
        raise ValueError(f"validation: expected a share between 0 and 1, found {validation!r}")
    order = np.random.default_rng(0).permutation(len(labels))
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        count = round(validation * len(members))
        if not 0 < count < len(members):
            raise ValueError(
                f"validation: a share of {validation} of {len(members)} images of class {label} "
                "leaves one side empty"
            )
        held_out[members[:count]] = True
    return (images[~held_out], labels[~held_out]), (images[held_out], labels[held_out])


def scaled(images: Images) -> npt.NDArray[np.float32]:
    """Return uint8 images as float32 in 0..1, the input of every network here."""
    return images.astype(np.float32) / np.float32(255)


def _stored(wanted: DataSet) -> Path | None:
    """Return the file with the arrays of a data set, or None if `keras.datasets` has them."""
    folder = os.environ.get("METAPLASTIC_DATA")
    if folder:
        return Path(folder) / f"{wanted.module}.npz"
    if wanted.module != _OURS:
        return None
    # The folder in which `keras.datasets` keeps the others.
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    return home / "datasets" / f"{wanted.module}.npz"


def _read(path: Path, wanted: DataSet) -> list[npt.NDArray[np.uint8]]:
    keys = ("x_train", "y_train", "x_test", "y_test")
    try:
        with np.load(path, allow_pickle=False) as stored:
            return [stored[key] for key in keys]
    except OSError as error:
        otherwise = (
            f"`python -m models data {wanted.name}` makes it"
            if wanted.module == _OURS
            else f"METAPLASTIC_DATA must name a folder with {path.name} (arrays {', '.join(keys)}),"
            " or be unset to download it"
        )
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}); {otherwise}"
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
