"""`python -m models data`: list, add, remove and show data sets."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from models.cards import ImageInput
from models.data import storage, tiny_imagenet
from models.data.datasets import (
    DATASETS,
    DataError,
    DataSet,
    dataset,
    known_data_sets,
    load,
    whereabouts,
)
from models.signals import INTERRUPTED
from models.terminal import say

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]  # header, rows


def list_data_sets() -> Table:
    """Every data set that is known, and where it is."""
    header = "data set", "image", "classes", "training", "test", "where"
    return header, [
        (
            *(each.name, _image(each.input), str(len(each.labels))),
            *(_count(each, "train"), _count(each, "test"), whereabouts(each)),
        )
        for each in known_data_sets()
    ]


def add(wanted: argparse.Namespace) -> int:
    """Carry out `data add NAME SOURCE`: make or fetch a data set."""
    name, source = wanted.name, wanted.source
    if name in DATASETS and name != "tiny-imagenet":
        if source is not None:
            raise DataError(f"{name} is built in: choose another name for {source}")
        load(name)  # downloads it where METAPLASTIC_DATA names no folder that has it
        say(f"{name}: {whereabouts(dataset(name))}")
        return 0
    try:
        if name in DATASETS:
            _tiny_imagenet(source)
        else:
            _pictures(wanted)
    except KeyboardInterrupt:
        say("\ninterrupted; nothing was added", sys.stderr)
        return INTERRUPTED
    except OSError as error:
        raise DataError(f"{name} was not added: {error}") from error
    say(f"\n{name} is in {storage.data_folder() / name}")
    if name not in DATASETS:
        say(f"train it: python -m models train {name} vgg")
    return 0


def remove(name: str) -> None:
    """Carry out `data remove NAME`."""
    if name in DATASETS and storage.find_stored(name) is None:
        raise DataError(f"{name} is built in, and its file in METAPLASTIC_DATA is not ours")
    say(f"removed {storage.remove(name)}")


def show(name: str, out: Path | None) -> Table:
    """Carry out `data show NAME`: draw a PNG, and say how large it is."""
    from models.data.show import draw

    known, arrays = dataset(name), load(name)
    target = out or Path(f"{name}.png")
    draw(known, arrays, target)
    say(target)
    report = storage.data_folder() / name / storage.REPORT
    if known.sha256:
        say(f"{report}: what was noticed when it was added")
    own = "-" if arrays.validation is None else f"{len(arrays.validation[1]):,}"
    header = "data set", "image", "classes", "training", "validation", "test", "SHA-256"
    row = (
        *(name, _image(known.input), str(len(known.labels))),
        *(f"{len(arrays.x_train):,}", own, f"{len(arrays.x_test):,}", arrays.sha256()[:12]),
    )
    return header, [row]


def _pictures(wanted: argparse.Namespace) -> None:
    from models.data.add import add_pictures
    from models.data.folders import labelled, open_source

    if wanted.source is None:
        raise DataError(
            f"data add {wanted.name} needs a folder, a table or a zip file with pictures; without "
            f"one only a built-in data set is had: {', '.join(DATASETS)}"
        )
    channels = wanted.channels or (3 if wanted.style == "photo" else 1)
    if wanted.style != "photo" and channels != 1:
        raise DataError(f"pictures of the style {wanted.style} have 1 channel, not {channels}")
    height, width = wanted.size
    target = ImageInput(height, width, channels, wanted.style, (), (), wanted.resize)
    with open_source(wanted.source) as source:
        files = labelled(source, wanted.source)
        _, report = add_pictures(
            *(wanted.name, source, files, target), test=wanted.test, seed=wanted.seed
        )
    _tell(report.summary(), wanted.name)


def _tiny_imagenet(path: Path | None) -> None:
    """Tiny ImageNet from a zip file or a folder, or else from its archive, which is downloaded."""
    from models.data.add import add_pictures
    from models.data.folders import open_source

    built_in = DATASETS["tiny-imagenet"]
    if storage.find_stored(built_in.name) and path is None:
        return
    with open_source(path or tiny_imagenet.fetch(storage.data_folder())) as source:
        _, report = add_pictures(
            *(built_in.name, source, tiny_imagenet.labelled(source), built_in.input),
            labels=built_in.labels,
        )
    _tell(report.summary(), built_in.name)


def _tell(lines: Iterable[str], name: str) -> None:
    for line in lines:
        say(line)
    say(f"all of it: {storage.data_folder() / name / storage.REPORT}")


def _image(size: ImageInput) -> str:
    return f"{size.height}x{size.width}x{size.channels}"


def _count(known: DataSet, split: str) -> str:
    return f"{known.splits[split]:,}" if split in known.splits else "-"
