"""From the parts of a job to its table, and to the table of what could not be classified."""

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
    plain,
)


class Merged(NamedTuple):
    """How many pictures there are of each kind in the parts."""

    classified: int
    skipped: int


def merge(job: Job, out: Path, identity: Identity) -> Merged:
    """Add the rows of all parts to the table `out`, and write the errors to another table.

    Then the parts are removed. Both tables are replaced as a whole. A row that `out` has already is
    left out, so a kill at any moment doubles none. Raises OSError.
    """
    kind = format_of(out)
    errors = errors_path(out)
    classified = skipped = 0
    partial = out.with_name(f".{out.name}.partial")
    partial_errors = errors.with_name(f".{errors.name}.partial")

    def answers() -> Iterator[tuple[str, ...]]:
        nonlocal classified, skipped
        yield from finished_rows(out, identity)
        for number in sorted(part_numbers(job.folder)):
            for row in read_part(job.folder, number):
                if row.error:
                    skipped += 1
                    wrong.writerow((plain(row.file), plain(row.error)))
                elif not job.has_answer(name := kind.name(row.file)):
                    classified += 1
                    label = kind.name(row.label)
                    yield name, label, row.probability, row.in_distribution, *identity

    with partial_errors.open("w", encoding="utf-8", newline="") as file:
        wrong = csv_writer(file)
        wrong.writerow(ERROR_COLUMNS)
        kind.write(partial, answers())
        file.flush()
        os.fsync(file.fileno())
    if skipped:
        partial_errors.replace(errors)
    else:
        partial_errors.unlink()
        errors.unlink(missing_ok=True)
    partial.replace(out)
    sync_folder(out.parent)
    job.forget_chunks()
    return Merged(classified, skipped)


def errors_path(out: Path) -> Path:
    """Return the path of the table of what could not be classified: results.errors.csv."""
    return out.with_name(f"{out.stem}.errors.csv")
