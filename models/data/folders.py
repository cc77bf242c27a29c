"""Labelled pictures as people keep them: a folder for each class, a table, or a zip of either.

FOLDER/<class>/*                    or FOLDER/train/<class>/*, val/ and test/ beside it
labels.csv: file,label[,split]      with the files beside it or below
"""

import contextlib
import csv
import io
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from models.data.storage import SPLITS, DataError
from models.files import is_shown, read_regular

MOST_BYTES = 200 << 20  # of one picture's file
_SPLIT_NAMES = {name: name for name in SPLITS} | {"valid": "val", "validation": "val"}


@dataclass(frozen=True)
class Labelled:
    """A file that is said to show something."""

    file: str  # its name in the source
    label: str  # "" where the source has none: the file will be reported
    split: str = ""  # one of SPLITS; "" where the source has none


class Source(Protocol):
    """Where pictures come from: a folder or a zip file."""

    def names(self) -> Iterable[str]:
        """Return the files' names, in order, with / between their parts."""

    def read(self, name: str) -> bytes:
        """Return the bytes of a file. Raises OSError where they cannot be had."""


class Folder:
    """Files in a folder and below; hidden ones are left out, as Explorer's and Finder's notes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> Iterator[str]:
        for folder, below, files in os.walk(self.root, followlinks=True):
            resolved = Path(folder).resolve()
            if any(resolved == parent for parent in Path(folder).absolute().parents):
                below.clear()  # a link to a folder that holds it: an endless way down
                continue
            below[:] = sorted(filter(is_shown, below))
            for file in sorted(filter(is_shown, files)):
                yield (Path(folder) / file).relative_to(self.root).as_posix()

    def read(self, name: str) -> bytes:
        path = self.root / name
        if path.stat().st_size > MOST_BYTES:
            raise OSError(f"more than {MOST_BYTES >> 20} MiB")
        return read_regular(path)


class Zip:
    """Files in a zip file. A single folder that holds all others is passed through."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        files = [info.filename for info in archive.infolist() if not info.is_dir()]
        paths = {name: PurePosixPath(name).parts for name in files}
        shown = {n: parts for n, parts in paths.items() if parts and all(map(is_shown, parts))}
        top = {parts[0] for parts in shown.values()}
        alone = len(top) == 1 and all(len(parts) > 2 for parts in shown.values())
        self._stored = {"/".join(parts[alone:]): name for name, parts in shown.items()}

    def names(self) -> list[str]:
        return sorted(self._stored)

    def read(self, name: str) -> bytes:
        if name not in self._stored:
            raise FileNotFoundError("not in the zip file")
        info = self.archive.getinfo(self._stored[name])
        if info.file_size > MOST_BYTES:
            raise OSError(f"more than {MOST_BYTES >> 20} MiB")
        try:
            return self.archive.read(info)  # no more bytes than it claims
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
            raise OSError(str(error)) from error


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Yield the files of `path`: a folder, a table (.csv) and what lies beside it, or a zip file.

    Raises DataError for anything else.
    """
    if path.is_dir():
        yield Folder(path)
    elif path.suffix.lower() == ".csv" and path.exists():
        yield Folder(path.parent)
    elif path.exists():
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(
                f"{path}: expected a folder of pictures, a table in CSV or a zip file of either "
                f"({error})"
            ) from error
        with archive:
            yield Zip(archive)
    else:
        raise DataError(f"{path} does not exist")


def labelled(source: Source, path: Path) -> list[Labelled]:
    """Return the labelled files of the source at `path`: by its table, or its folders.

    Raises DataError where nothing is labelled.
    """
    if path.suffix.lower() == ".csv" and not path.is_dir():
        return _table(source, path.name, path)
    names = list(source.names())
    tables = [name for name in names if "/" not in name and name.lower().endswith(".csv")]
    if len(tables) > 1:
        raise DataError(f"{path} has {len(tables)} tables ({', '.join(tables)}): keep one")
    if not tables:
        return _by_folders(names, path)
    rows = _table(source, tables[0], path / tables[0])
    in_rows = {row.file for row in rows} | {tables[0]}
    return [*rows, *(Labelled(name, "") for name in names if name not in in_rows)]


def _by_folders(names: Sequence[str], path: Path) -> list[Labelled]:
    """`<class>/...`, or `<split>/<class>/...` where the folders at the top are all splits."""
    parts = {name: name.split("/") for name in names}
    top = {first for first, *below in parts.values() if below}
    has_splits = bool(top) and {name.lower() for name in top} <= set(_SPLIT_NAMES)
    deep = 3 if has_splits else 2
    if not any(len(part) >= deep for part in parts.values()):
        raise DataError(
            f"{path}: expected a folder for each class with pictures in it, or train, val and test "
            f"folders with such folders, or a table labels.csv; found {len(names)} files in none"
        )
    found = []
    for name, part in parts.items():
        if len(part) < deep:
            found.append(Labelled(name, ""))
        elif has_splits:
            found.append(Labelled(name, part[1], _SPLIT_NAMES[part[0].lower()]))
        else:
            found.append(Labelled(name, part[0]))
    return found


def _table(source: Source, name: str, path: Path) -> list[Labelled]:
    """Return the rows of a table with the columns file and label, and perhaps split."""
    try:
        text = source.read(name).decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text), dialect=_dialect(text), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a table in CSV and UTF-8 ({error})") from error
    columns = {(name or "").strip().lower(): name for name in (rows[0] if rows else {})}
    if not {"file", "label"} <= set(columns):
        raise DataError(
            f"{path}: expected a first line file,label (or file,label,split) and a row for each "
            f"picture; found the columns {', '.join(columns) or 'of no row'}"
        )
    found: list[Labelled] = []
    seen: dict[str, Labelled] = {}
    for line, row in enumerate(rows, start=2):
        file, label = ((row[columns[name]] or "").strip() for name in ("file", "label"))
        split = (row[columns["split"]] or "").strip() if "split" in columns else ""
        if not file or not label:
            raise DataError(f"{path}, row {line}: expected a file and a label, found {row}")
        if split and split.lower() not in _SPLIT_NAMES:
            raise DataError(f"{path}, row {line}: split: expected train, val or test: {split!r}")
        file = file.replace("\\", "/")
        entry = Labelled(re.sub(r"^(\./)+", "", file), label, _SPLIT_NAMES.get(split.lower(), ""))
        if seen.setdefault(entry.file, entry) != entry:
            raise DataError(f"{path}, row {line}: {file} stands in another row with another label")
        found.append(entry)
    return list(dict.fromkeys(found))


def _dialect(text: str) -> type[csv.Dialect]:
    """Commas, semicolons or tabs between columns, as the first line has them."""

    class Dialect(csv.excel):
        delimiter = max(",;\t", key=text.partition("\n")[0].count)

    return Dialect
