"""From the parts of a job to its table, and to the table of what could not be classified."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from app.bulk.job import Job
from app.bulk.parts import part_numbers, read_part, sync_folder
from app.bulk.tables import (
    ERROR_COLUMNS,
    Identity,
    csv_writer,
    finished_rows,
    format_of,
    name_in_tables,
    plain,
)
from app.settings import StartError

_LONGEST_HEAD = 100  # characters of the first line of a table that are read


class Merged(NamedTuple):
    """How many pictures there are of each kind in the parts."""

    classified: int
    skipped: int


def merge(job: Job, out: Path, identity: Identity) -> Merged:
    """Add the rows of all parts to the table `out`, and write the errors to another table.

    Then the parts are removed. Both tables are replaced as a whole. A row that `out` has already is
    left out, so a kill at any moment doubles none. Raises OSError, and StartError for a part that
    is damaged; both tables are then as they were.
    """
    kind = format_of(out)
    errors = errors_path(out)
    classified = skipped = 0
    partial = out.with_name(f".{out.name}.partial")
    partial_errors = errors.with_name(f".{errors.name}.partial")

    def answers() -> Iterator[tuple[str, ...]]:
        nonlocal classified, skipped
        yield from finished_rows(out, identity)
        # A part of no chunk is from before its chunk was halved: the halves have its rows.
        for number in sorted(part_numbers(job.folder) & set(job.numbers())):
            names = (name_in_tables(picture.name) for picture in job.chunk(number).pictures)
            for row in read_part(job.folder, number, names):
                if row.error:
                    skipped += 1
                    wrong.writerow((plain(row.file), plain(row.error)))
                elif not job.has_answer(name := kind.name(row.file)):
                    classified += 1
                    label = kind.name(row.label)
                    yield name, label, row.probability, row.in_distribution, *identity

    try:
        with partial_errors.open("w", encoding="utf-8", newline="") as file:
            wrong = csv_writer(file)
            wrong.writerow(ERROR_COLUMNS)
            kind.write(partial, answers())
            file.flush()
            os.fsync(file.fileno())
        if skipped:
            partial_errors.replace(errors)
        else:
            errors.unlink(missing_ok=True)
        partial.replace(out)
    finally:  # a full disk gets its room back
        partial_errors.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)
    sync_folder(out.parent)
    job.forget_chunks()
    return Merged(classified, skipped)


def errors_path(out: Path) -> Path:
    """Return the path of the table of what could not be classified.

    It is results.errors.csv for results.csv, and results.parquet.errors.csv for results.parquet.
    """
    name = out.stem if out.suffix.lower() == ".csv" else out.name
    return out.with_name(f"{name}.errors.csv")


def check_errors(out: Path) -> None:
    """Raise StartError if there is another file where the table of errors is to be written."""
    errors = errors_path(out)
    if not errors.exists():
        return
    if errors.is_file():
        with errors.open(encoding="utf-8", errors="replace", newline="") as file:
            begins = next(csv.reader(iter([file.readline(_LONGEST_HEAD)])), [])
        if tuple(begins) in ((), ERROR_COLUMNS):
            return
    raise StartError(
        f"{errors}, where pictures without an answer are listed, was not written by this command. "
        "Name another file with --out."
    )
