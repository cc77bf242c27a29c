"""Trials and their results: one row for each trial in a CSV file, the record of what is done."""

import csv
import dataclasses
import fcntl
import io
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import MetaplasticError
from models.files import write_whole

Row = Mapping[str, str]


@dataclass(frozen=True, order=True)
class Trial:
    """One training. Each field is a column, and all fields together identify it."""

    dataset: str
    architecture: str
    condition: str
    optimizer: str
    # "tuning": constants are chosen by its validation accuracy. "report": its test accuracy counts.
    purpose: str
    rule: str  # plan.BASELINE or a rule
    learning_rate: float
    strength: float  # of the rule; 0 for the baseline
    images: int  # of the training split
    epochs: int
    seed: int

    @property
    def name(self) -> str:
        """Return a unique name that can be the name of a folder."""
        values = (str(value).replace(" ", "_") for value in dataclasses.astuple(self))
        return "-".join(values).replace("+", "_")


@dataclass(frozen=True)
class TrialResult:
    """The figures of a trial, for its row, and a row of its curves for each epoch."""

    figures: Mapping[str, float | str]  # accuracies in 0..1, seconds, backend, hardware
    curve: Iterable[Mapping[str, float | str]]


@dataclass(frozen=True)
class Tables:
    """The two files of a study in one folder: `<study>.csv` and `<study>-curves.csv`."""

    folder: Path
    study: str

    @property
    def runs(self) -> Path:
        """Return the path of the file with a row for each trial."""
        return self.folder / f"{self.study}.csv"

    @property
    def curves(self) -> Path:
        """Return the path of the file with a row for each epoch of each trial."""
        return self.folder / f"{self.study}-curves.csv"


def read_done(tables: Tables) -> dict[Trial, Row]:
    """Return the row of each finished trial, in the order of the file.

    Raises MetaplasticError for a row that is not a trial.
    """
    return {_trial(row, tables.runs): row for row in read_rows(tables.runs)}


def read_curves(tables: Tables) -> dict[str, list[Row]]:
    """Return the epochs of each trial, by the name of the trial."""
    curves: dict[str, list[Row]] = {}
    for row in read_rows(tables.curves):
        curves.setdefault(row["run"], []).append(row)
    return curves


def record(tables: Tables, trial: Trial, result: TrialResult, lock: Path) -> None:
    """Add a trial to both files, which stay sorted.

    `lock` is a lock file that keeps other processes out in the meantime.
    """
    own = {name: _text(value) for name, value in dataclasses.asdict(trial).items()}
    row = own | {name: _text(value) for name, value in result.figures.items()}
    curve = [
        {"run": trial.name} | {name: _text(value) for name, value in epoch.items()}
        for epoch in result.curve
    ]
    with locked(lock):
        # The curves come first, so that every trial with a row also has its curve.
        others = [old for old in read_rows(tables.curves) if old["run"] != trial.name]
        if others or curve:
            write_rows(tables.curves, sorted([*others, *curve], key=lambda epoch: epoch["run"]))
        done = {**read_done(tables), trial: row}
        write_rows(tables.runs, [done[key] for key in sorted(done)])


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock file `path` and hold it. A process that dies releases it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _trial(row: Row, path: Path) -> Trial:
    kinds = typing.get_type_hints(Trial)
    try:
        return Trial(**{f.name: kinds[f.name](row[f.name]) for f in dataclasses.fields(Trial)})
    except (KeyError, ValueError) as error:
        raise MetaplasticError(
            f"{path} has a row that is no trial: {error}: {dict(row)}"
        ) from error


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a CSV file, or no rows if the file does not exist."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Replace a CSV file in one step. Its columns are those of all rows, in order of appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.getvalue())
