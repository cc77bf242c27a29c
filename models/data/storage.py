"""Data sets on the disk: a descriptor and arrays, in a folder for each below the data folder.

    <data folder>/<name>/dataset.json   the descriptor, a DataSet
                         images.npy     uint8 (N, height, width, channels), in random order
                         labels.npy     int64 (N,)
                         splits.npy     uint8 (N,), the place in SPLITS
                         groups.npy     int64 (N,): equal for pictures that are nearly equal
                         report.txt     what was noticed when the pictures were read

Images are read from the disk as they are asked for, so that a data set may be larger than memory.
"""

import contextlib
import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from models.cards import ImageInput, is_name
from models.errors import MetaplasticError
from models.files import write_whole
from models.parsing import ParseError, parse

DESCRIPTOR, REPORT = "dataset.json", "report.txt"
IMAGES, LABELS, SPLIT_OF, GROUPS = "images.npy", "labels.npy", "splits.npy", "groups.npy"
SPLITS = ("train", "val", "test")
_HEADER = 128  # bytes before the pixels in images.npy: numpy leaves room for a number to grow
_PART = 500  # images read at once where all are gone through


class DataError(MetaplasticError):
    """A data set that is not to be had, or not what it should be: says what to do."""


@dataclass(frozen=True)
class DataSet:
    """A descriptor: what is known of a data set before its arrays are read."""

    name: str  # in folders, URLs and commands
    labels: tuple[str, ...]
    input: ImageInput
    splits: Mapping[str, int] = field(default_factory=dict)  # name -> images, where it is known
    sha256: str = ""  # of the arrays, as Arrays.sha256 has it; "": not known
    module: str = ""  # a built-in set's `<module>.npz`, and `keras.datasets.<module>`


@dataclass(frozen=True)
class StoredImages:
    """Some images of a file, read when they are asked for: uint8 (N, height, width, channels)."""

    path: Path  # of a .npy file with more or as many images
    places: npt.NDArray[np.int64]  # (N,), where they are in the file

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, height, width, channels)."""
        return (len(self.places), *_mapped(self.path).shape[1:])

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, chosen: Any) -> npt.NDArray[np.uint8]:
        # Mapped for this one reading: what was read stays in the system's cache, and leaves ours.
        return np.array(_mapped(self.path)[self.places[chosen]])


Images = npt.NDArray[np.uint8] | StoredImages  # (N, height, width, channels)
Labels = npt.NDArray[np.int64]  # (N,)


def select(images: Images, chosen: npt.NDArray[Any]) -> Images:
    """Return the `chosen` images (places or flags), without reading those that are stored."""
    if isinstance(images, StoredImages):
        return StoredImages(images.path, images.places[chosen])
    taken: npt.NDArray[np.uint8] = images[chosen]
    return taken


def write_header(written: IO[bytes], shape: tuple[int, ...]) -> None:
    """Write the head of a .npy file of uint8 in `shape`, as long for any number of images."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(written, header)
    assert written.tell() == _HEADER


def parts(images: Images) -> Iterator[npt.NDArray[np.uint8]]:
    """Return all images in their order, some at a time."""
    for start in range(0, len(images), _PART):
        yield images[start : start + _PART]


def checksum(split: tuple[Images, Labels], digest: Any) -> None:
    """Add shapes and values of a split's two arrays to a hashlib `digest`."""
    images, labels = split
    digest.update(repr(images.shape).encode())
    for part in parts(images):
        digest.update(np.ascontiguousarray(part).data)
    digest.update(repr(labels.shape).encode())
    kind = np.uint8 if not len(labels) or labels.max() < 256 else np.dtype("<u4")
    digest.update(np.ascontiguousarray(labels, dtype=kind).data)


def data_folder() -> Path:
    """METAPLASTIC_DATA, or else a folder of ours in the user's data directory."""
    if named := os.environ.get("METAPLASTIC_DATA"):
        return Path(named)
    if home := os.environ.get("XDG_DATA_HOME"):
        return Path(home) / "metaplastic"
    usual = "Library/Application Support" if sys.platform == "darwin" else ".local/share"
    return Path.home() / usual / "metaplastic"


def check_name(name: str) -> None:
    """Raise DataError unless `name` can be a folder's and stand in a URL."""
    if not is_name(name):
        raise DataError(
            f"a data set cannot be called {name!r}: expected lower-case letters and digits, joined "
            "by hyphens, as in red-shoes"
        )


def stored_names() -> list[str]:
    """Return the names of the data sets that were added, in order."""
    return sorted(path.parent.name for path in data_folder().glob(f"[!.]*/{DESCRIPTOR}"))


def find_stored(name: str) -> DataSet | None:
    """Return the descriptor of the data set that was added as `name`; None where none was.

    Raises DataError where it cannot be read.
    """
    path = data_folder() / name / DESCRIPTOR
    if not is_name(name) or not path.exists():
        return None
    try:
        return parse(DataSet, json.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, ValueError, ParseError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); remove the data set and add it again: "
            f"python -m models data remove {name}"
        ) from error


def open_splits(known: DataSet, folder: Path) -> dict[str, tuple[StoredImages, Labels, Labels]]:
    """(images, labels, groups) of each split of the data set in `folder`.

    Raises DataError where an array is missing or is not as the descriptor has it.
    """
    again = f"python -m models data remove {known.name}, and add it again"
    try:
        shape = _mapped(folder / IMAGES).shape
        labels, splits, groups = (
            np.load(folder / name, allow_pickle=False) for name in (LABELS, SPLIT_OF, GROUPS)
        )
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} is not whole ({error}): {again}") from error
    image = known.input
    expected = (sum(known.splits.values()), image.height, image.width, image.channels)
    if shape != expected or {len(labels), len(splits), len(groups)} != {expected[0]}:
        raise DataError(f"{folder / IMAGES}: expected {expected}, found {shape}: {again}")
    found = {}
    for number, split in enumerate(SPLITS):
        places = np.flatnonzero(splits == number)
        if len(places) != known.splits.get(split, 0):
            raise DataError(f"{folder / SPLIT_OF} is not what {DESCRIPTOR} says: {again}")
        images = StoredImages(folder / IMAGES, places)
        found[split] = (images, labels[places].astype(np.int64), groups[places])
    return found


def write_descriptor(folder: Path, known: DataSet) -> None:
    """Write dataset.json into `folder`."""
    text = json.dumps(asdict(known), indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(folder / DESCRIPTOR, text + "\n")


@contextlib.contextmanager
def adding(name: str) -> Iterator[Path]:
    """Yield a folder to fill, which becomes the data set `name` at once at the end, or is dropped.

    Raises DataError where there is one of that name, or another process adds one.
    """
    root = data_folder()
    target, partial = root / name, root / f".adding-{name}"
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                f"another process is adding a data set to {root}: wait for its end"
            ) from error
        if target.exists():
            raise DataError(
                f"there is a data set {name} already, in {target}: choose another name, or remove "
                f"it: python -m models data remove {name}"
            )
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.mkdir()
        try:
            yield partial
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def remove(name: str) -> Path:
    """Remove the data set that was added as `name`, and return where it was. Raises DataError."""
    folder = data_folder() / name
    if not is_name(name) or not (folder / DESCRIPTOR).exists():
        known = ", ".join(stored_names()) or "none"
        raise DataError(f"no data set was added as {name!r}; there are: {known}")
    gone = folder.with_name(f".removing-{name}")
    shutil.rmtree(gone, ignore_errors=True)
    folder.rename(gone)  # at once: nobody finds a part of it
    shutil.rmtree(gone)
    return folder


def _mapped(path: Path) -> npt.NDArray[np.uint8]:
    mapped: npt.NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped
