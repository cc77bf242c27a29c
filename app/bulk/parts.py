"""The parts of a table: one file for each chunk, written as a whole or not at all."""

import csv
import os
from collections.abc import Iterable
from pathlib import Path

from app.bulk.tables import Row, csv_writer
from app.settings import StartError

_PREFIX, _PARTIAL = "part-", ".partial"


def part_path(folder: Path, number: int) -> Path:
    """Return the path of the part of the chunk `number`."""
    return folder / f"{_PREFIX}{number:08}"


def write_part(folder: Path, number: int, rows: Iterable[Row]) -> None:
    """Write the rows of a chunk. A reader sees no part or a whole one. Raises OSError.

    Two processes may write the same part at the same time: the last one stays.
    """
    path = part_path(folder, number)
    partial = folder / f".{path.name}.{os.uname().nodename}.{os.getpid()}{_PARTIAL}"
    with partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        csv_writer(file).writerows(rows)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(folder)


def read_part(folder: Path, number: int, names: Iterable[str]) -> list[Row]:
    """Return the rows of a part, in which there must be one for each of `names`.

    A part of which something is missing, which only a fault of the disk explains, is removed.
    Raises StartError then.
    """
    path = part_path(folder, number)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [Row(*cells) for cells in csv.reader(file)]
        if missing := set(names) - {row.file for row in rows}:
            raise ValueError(f"{len(missing)} rows are missing")
    except (ValueError, TypeError, csv.Error) as error:
        path.unlink()
        raise StartError(
            f"{path} was damaged ({error}), and is removed. Run the same command to do it again."
        ) from error
    return rows


def part_numbers(folder: Path) -> set[int]:
    """Return the numbers of the chunks that have a part."""
    return {
        int(path.name.removeprefix(_PREFIX))
        for path in folder.iterdir()
        if path.name.startswith(_PREFIX)
    }


def remove_parts(folder: Path, numbers: Iterable[int] | None = None) -> None:
    """Remove the parts of these chunks, and what was left of unfinished ones."""
    for number in part_numbers(folder) if numbers is None else numbers:
        part_path(folder, number).unlink(missing_ok=True)
    for path in folder.glob(f".*{_PARTIAL}"):
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """See that a renamed file has its new name on the disk too."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
