"""Tiny ImageNet: convert the archive of Stanford's course CS231n to one file of arrays.

It has 64x64 images of 200 classes of ImageNet: 100,000 for training, and 10,000 in `val`, which is
the test set here. The published `test` has no labels and is not used. Some JPEGs are grey.
ImageNet's terms allow non-commercial research and education.
"""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from models.data.download import DownloadError, checksum, download
from models.errors import MetaplasticError

URL = "https://cs231n.stanford.edu/tiny-imagenet-200.zip"
# Not verified by a download. Nine other projects state this checksum, and one states the size.
SHA256 = "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821"
SIZE = 248_100_043  # bytes
SIDE = 64  # pixels, of every image
_MOST_BYTES = 1 << 20  # limit for one unpacked file; the real ones are far smaller

_Split = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]  # (N, 64, 64, 3) RGB, labels (N,)


class ArchiveError(MetaplasticError):
    """An archive that is not Tiny ImageNet. The message says what was expected."""


def classes() -> dict[str, str]:
    """Return ImageNet's number of each of the 200 classes and its name, in the order of labels."""
    lines = Path(__file__).with_suffix(".tsv").read_text(encoding="utf-8").splitlines()
    return dict(tuple(line.split("\t")) for line in lines)  # type: ignore[misc]


def prepare(target: Path, archive: Path | None = None) -> None:
    """Write the four arrays to the .npz file `target` in one step.

    They are read from `archive`. Without one, the published archive is downloaded to the folder of
    `target`, unless it is there already, and kept. Raises DownloadError or ArchiveError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if archive is None:
        archive = target.parent / PurePosixPath(URL).name
        if not archive.exists():
            download(URL, archive, SHA256, SIZE)
        elif (found := checksum(archive)) != SHA256:
            raise DownloadError(
                f"{archive} has the SHA-256 {found}, expected {SHA256}: delete it to download it "
                "again, or use --archive to read it anyway"
            )
    (x_train, y_train), (x_test, y_test) = read(archive)
    partial = target.with_name(f".partial-{target.name}")
    try:
        np.savez(partial, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def read(archive: Path) -> tuple[_Split, _Split]:
    """Return (training, test) from the zip file `archive`.

    Images are JPEGs in the folders `train` and `val`. The file name of a training image begins with
    its class. The class of a `val` image is in `val_annotations.txt`, or it is the name of its
    folder, as in many rearranged copies. An archive with only some of the images is accepted.

    Raises ArchiveError for any other archive.
    """
    numbers = {name: number for number, name in enumerate(classes())}
    try:
        with zipfile.ZipFile(archive) as opened:
            files: dict[str, dict[str, int]] = {"train": {}, "val": {}}
            annotated = _annotations(opened)
            for name in sorted(opened.namelist()):
                path = PurePosixPath(name)
                split = next((part for part in path.parts if part in files), None)
                if split is not None and path.suffix.upper() == ".JPEG":
                    label = numbers.get(_class_of(path, split, annotated), -1)
                    if label < 0:
                        raise ArchiveError(f"{archive}: {name} is of none of the 200 classes")
                    files[split][name] = label
            if missing := [split for split, found in files.items() if not found]:
                raise ArchiveError(
                    f"{archive}: expected JPEGs in the folders train and val, found none in "
                    f"{' and '.join(missing)}"
                )
            return _decoded(opened, files["train"]), _decoded(opened, files["val"])
    except (OSError, zipfile.BadZipFile) as error:
        raise ArchiveError(f"{archive} cannot be read as a zip file: {error}") from error


def _annotations(archive: zipfile.ZipFile) -> dict[str, str]:
    """Return file name -> class of the `val` images, empty if the archive has no such table."""
    tables = [name for name in archive.namelist() if name.endswith("val_annotations.txt")]
    lines = _unpacked(archive, tables[0]).decode().splitlines() if tables else []
    return {name: kind for name, kind, *_ in (line.split("\t") for line in lines)}


def _class_of(path: PurePosixPath, split: str, annotated: Mapping[str, str]) -> str:
    if split == "train":
        return path.name.partition("_")[0]
    return annotated.get(path.name, path.parent.name)


def _decoded(archive: zipfile.ZipFile, labels: Mapping[str, int]) -> _Split:
    images = np.empty((len(labels), SIDE, SIDE, 3), np.uint8)
    bar = tqdm(labels, desc="reading JPEGs", unit="image", disable=None)  # None: only on a terminal
    for image, name in zip(images, bar, strict=True):
        try:
            opened = Image.open(io.BytesIO(_unpacked(archive, name)))
            if opened.size != (SIDE, SIDE):
                raise ArchiveError(
                    f"{archive.filename}: expected {SIDE}x{SIDE} pixels, found "
                    f"{opened.width}x{opened.height} in {name}"
                )
            image[:] = np.asarray(opened.convert("RGB"))
        except (OSError, zipfile.BadZipFile) as error:
            raise ArchiveError(f"{archive.filename}: {name} cannot be read: {error}") from error
    return images, np.array(list(labels.values()), np.uint8)


def _unpacked(archive: zipfile.ZipFile, name: str) -> bytes:
    size = archive.getinfo(name).file_size  # zipfile unpacks at most this many bytes
    if size > _MOST_BYTES:
        raise ArchiveError(
            f"{archive.filename}: {name} has {size} bytes, expected at most {_MOST_BYTES}"
        )
    return archive.read(name)
