"""Tiny ImageNet: the archive as Stanford's CS231n publishes it, and what its files show.

It has 64x64 images of 200 classes of ImageNet: 100,000 for training, and 10,000 in `val`, which is
the test set here. The published `test` has no labels and is not used. Some JPEGs are grey.
ImageNet's terms allow non-commercial research and education.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from models.data.download import DownloadError, checksum, download
from models.data.folders import Labelled, Source
from models.errors import MetaplasticError

URL = "https://cs231n.stanford.edu/tiny-imagenet-200.zip"
# Not verified by a download. Nine other projects state this checksum, and one states the size.
SHA256 = "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821"
SIZE = 248_100_043  # bytes
SIDE = 64  # pixels, of every image
_SPLITS = {"train": "train", "val": "test"}


class ArchiveError(MetaplasticError):
    """A source that is not Tiny ImageNet: says what was expected in it."""


def classes() -> dict[str, str]:
    """Return ImageNet's number of each of the 200 classes and its name, in the order of labels."""
    lines = Path(__file__).with_suffix(".tsv").read_text(encoding="utf-8").splitlines()
    return dict(tuple(line.split("\t")) for line in lines)  # type: ignore[misc]


def fetch(folder: Path) -> Path:
    """Return the published archive in `folder`, downloaded if need be. Raises DownloadError."""
    archive = folder / PurePosixPath(URL).name
    if not archive.exists():
        download(URL, archive, SHA256, SIZE)
    elif (found := checksum(archive)) != SHA256:
        raise DownloadError(
            f"{archive} has the SHA-256 {found}, expected {SHA256}: delete it to download it "
            "again, or name it in the command to read it all the same"
        )
    return archive


def labelled(source: Source) -> list[Labelled]:
    """Return the images of `source`, a zip file or a folder, with their class and split.

    They are JPEGs in folders `train` and `val`. A training image's class is its file name's
    beginning; a val image's stands in `val_annotations.txt`, or is the name of its folder, as many
    rearrange it. Raises ArchiveError where it is not Tiny ImageNet, or a part of it.
    """
    words = classes()
    names = list(source.names())
    annotated = _annotations(source, names)
    found = []
    for name in names:
        path = PurePosixPath(name)
        split = next((part for part in path.parts if part in _SPLITS), None)
        if split is not None and path.suffix.upper() == ".JPEG":
            number = _class_of(path, split, annotated)
            if number not in words:
                raise ArchiveError(f"{name} is of none of the 200 classes of Tiny ImageNet")
            found.append(Labelled(name, words[number], _SPLITS[split]))
    there = {one.split for one in found}
    if missing := [split for split, ours in _SPLITS.items() if ours not in there]:
        raise ArchiveError(
            "expected Tiny ImageNet's JPEGs in the folders train and val, found none in "
            f"{' and '.join(missing)}"
        )
    return found


def _annotations(source: Source, names: list[str]) -> dict[str, str]:
    """File name -> class, of the val images, where the source has the published table."""
    tables = [name for name in names if name.endswith("val_annotations.txt")]
    lines = source.read(tables[0]).decode().splitlines() if tables else []
    return {name: kind for name, kind, *_ in (line.split("\t") for line in lines)}


def _class_of(path: PurePosixPath, split: str, annotated: Mapping[str, str]) -> str:
    if split == "train":
        return path.name.partition("_")[0]
    return annotated.get(path.name, path.parent.name)
