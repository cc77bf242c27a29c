"""From labelled pictures to a data set: read in parallel, compared, split, written and reported."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from models.cards import ImageInput
from models.data import storage
from models.data.datasets import open_arrays
from models.data.duplicates import features, grouped, nearly_equal
from models.data.folders import Labelled, Source
from models.data.reading import UnreadableError, read_picture
from models.data.report import Report, Used
from models.data.splits import hold_out
from models.data.storage import SPLITS, DataError, DataSet, StoredImages, parts

_AHEAD = 256  # pictures read, at most, before they are written
_SMALL = 2  # times that a picture may be enlarged before it is reported
_NO_LABEL = "has no label: it is in no class' folder, or in no row of the table"
LEAST_STD = 0.01  # of values in 0..1: what is constant cannot be normalised


@dataclass
class _Found:
    """What is known of each picture that was read, in the order of images.npy."""

    files: list[Labelled]
    digests: list[bytes]
    features: list[npt.NDArray[np.float32]]
    enlarged: list[str]  # files much smaller than the network's input
    unreadable: dict[str, str]  # file -> why


def add_pictures(
    name: str,
    source: Source,
    files: Sequence[Labelled],
    target: ImageInput,
    *,
    labels: tuple[str, ...] | None = None,
    test: float = 0.15,
    seed: int = 0,
) -> tuple[DataSet, Report]:
    """Make the data set `name` of the labelled `files`, and say what was noticed.

    `target` says how pictures are prepared; its mean and deviation are replaced by those of the
    training pictures. `labels` are all classes in their order, else those of the files in
    alphabetical order. Where the files have no test split, the share `test` of each class becomes
    it, drawn by `seed`. The data set appears at once, or not at all.

    Raises DataError for a name that cannot be, or is already, and for pictures that make no data
    set.
    """
    storage.check_name(name)
    if not 0 < test < 1:
        raise DataError(f"test: expected a share between 0 and 1, found {test!r}")
    with storage.adding(name) as folder:
        order = np.random.default_rng(seed).permutation(len(files))
        found = _read_all(source, [files[place] for place in order], target, folder)
        labels = labels or _labels(found.files)
        _check(found, labels)
        numbers = {label: number for number, label in enumerate(labels)}
        y = np.array([numbers[file.label] for file in found.files], np.int64)
        images = StoredImages(folder / storage.IMAGES, np.arange(len(y)))
        equal, pairs = _alike(found, images)
        groups = grouped(len(y), [*equal, *pairs])
        splits = _splits(found.files, labels, y, groups, test, seed)
        np.save(folder / storage.LABELS, y)
        np.save(folder / storage.SPLIT_OF, splits)
        np.save(folder / storage.GROUPS, groups)
        mean, std = _mean_and_deviation(storage.select(images, splits == 0))
        known = DataSet(
            name=name,
            labels=labels,
            input=dataclasses.replace(target, mean=mean, std=std),
            splits={split: int((splits == number).sum()) for number, split in enumerate(SPLITS)},
        )
        known = dataclasses.replace(known, sha256=open_arrays(known, folder).sha256())
        report = Report(
            used=[
                Used(file.file, file.label, SPLITS[split])
                for file, split in zip(found.files, splits, strict=True)
            ],
            labels=labels,
            unreadable=found.unreadable,
            equal=equal,
            near=pairs,
            enlarged=sorted(found.enlarged),
            given={file.split for file in found.files} - {""},
        )
        (folder / storage.REPORT).write_text(report.text(), encoding="utf-8")
        storage.write_descriptor(folder, known)
    return known, report


def _read_all(
    source: Source, files: Sequence[Labelled], target: ImageInput, folder: Path
) -> _Found:
    """Read `files` in threads, which Pillow lets run side by side, and write images.npy."""
    found = _Found([], [], [], [], {file.file: _NO_LABEL for file in files if not file.label})
    files = [file for file in files if file.label]
    shape = target.height, target.width, target.channels

    def read(file: Labelled) -> Callable[[IO[bytes]], None]:
        try:
            picture = read_picture(source.read(file.file), target)
        except (UnreadableError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return lambda _: found.unreadable.update({file.file: reason})
        pixels, (width, height) = np.ascontiguousarray(picture.pixels), picture.size
        own = features(pixels)

        def keep(written: IO[bytes]) -> None:
            written.write(pixels.data)
            found.files.append(file)
            found.digests.append(hashlib.blake2b(pixels.data, digest_size=16).digest())
            found.features.append(own)
            if _SMALL * width < target.width or _SMALL * height < target.height:
                found.enlarged.append(file.file)

        return keep

    with (
        (folder / storage.IMAGES).open("wb") as written,
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(files), desc="reading", unit="picture", disable=None) as bar,
    ):
        storage.write_header(written, (len(files), *shape))
        for some in _some(files):
            for keep in pool.map(read, some):
                keep(written)
                bar.update()
        written.seek(0)
        storage.write_header(written, (len(found.files), *shape))
    return found


def _some(files: Sequence[Labelled]) -> Iterator[Sequence[Labelled]]:
    for start in range(0, len(files), _AHEAD):
        yield files[start : start + _AHEAD]


def _labels(files: Sequence[Labelled]) -> tuple[str, ...]:
    return tuple(sorted({file.label for file in files}))


def _check(found: _Found, labels: tuple[str, ...]) -> None:
    """Raise DataError unless the pictures are of two or more classes with usable names."""
    if len(found.files) == 0 or len(labels) < 2:
        reasons = list(found.unreadable.items())[:3]
        raise DataError(
            f"expected pictures of two or more classes, found {len(found.files)} of "
            f"{', '.join(labels) or 'none'}"
            + "".join(f"; {file}: {reason}" for file, reason in reasons)
        )
    for label in labels:
        if not label.isprintable() or len(label) > 200:
            raise DataError(f"a class cannot be called {label[:40]!a}: expected printable text")


def _alike(
    found: _Found, images: StoredImages
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Pairs of places: each picture equal to an earlier one with that one; and nearly equal ones.

    Nearly equal ones are looked for among those that no earlier one is equal to.
    """
    first: dict[bytes, int] = {}
    equal, alone = [], []
    for place, digest in enumerate(found.digests):
        if first.setdefault(digest, place) == place:
            alone.append(place)
        else:
            equal.append((first[digest], place))
    with tqdm(total=len(alone), desc="comparing", unit="picture", disable=None) as bar:
        pairs = nearly_equal(
            np.stack([found.features[place] for place in alone]),
            lambda place: images[alone[place]],
            bar.update,
        )
    return equal, [(alone[a], alone[b]) for a, b in pairs]


def _splits(
    files: Sequence[Labelled],
    names: tuple[str, ...],
    labels: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    test: float,
    seed: int,
) -> npt.NDArray[np.uint8]:
    """Return the place in SPLITS of each picture: the source's, or a drawn test split."""
    splits = np.array([SPLITS.index(file.split or "train") for file in files], np.uint8)
    training = splits == SPLITS.index("train")
    if not training.any():
        raise DataError("expected pictures in train, found none")
    if not (splits == SPLITS.index("test")).any():
        places = np.flatnonzero(training)
        held_out = hold_out(labels[places], test, seed=seed, groups=groups[places], least=1)
        splits[places[held_out]] = SPLITS.index("test")
    for number in np.unique(labels):
        if (splits[labels == number] != 0).all():
            raise DataError(
                f"the class {names[number]} has no picture to train with: expected three or more "
                "of each class, not all of them nearly equal"
            )
    if not (splits == SPLITS.index("test")).any():
        raise DataError("no picture is left for the test split: all of each class are nearly equal")
    return splits


def _mean_and_deviation(
    images: storage.Images,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of each channel of the images, values in 0..1."""
    sums = squares = np.zeros(images.shape[-1])
    count = 0
    for part in parts(images):
        values = part.astype(np.float64) / 255
        sums = sums + values.sum(axis=(0, 1, 2))
        squares = squares + (values**2).sum(axis=(0, 1, 2))
        count += values[..., 0].size
    mean = sums / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return (
        tuple(round(float(value), 4) for value in mean),
        tuple(round(max(float(value), LEAST_STD), 4) for value in deviation),
    )
