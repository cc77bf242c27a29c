"""Trials and what came of them: a row each in a CSV file that is the record of what is done."""

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
    """One training: all that tells it from any other. Each field is a column."""

    dataset: str
    architecture: str
    condition: str
    optimizer: str
    purpose: str  # "tuning": constants are chosen by it; "report": the test set is read at its end
    rule: str  # "plain" for the baseline
    learning_rate: float
    strength: float  # of the rule; 0 for the baseline
    images: int  # that it is trained on
    epochs: int
    seed: int

    @property
    def name(self) -> str:
        """Unique, and fit for a folder."""
        values = (str(value).replace(" ", "_") for value in dataclasses.astuple(self))
        return "-".join(values).replace("+", "_")


@dataclass(frozen=True)
class Outcome:
    """What a trial leaves: the figures of its row, and a row of the curves for each epoch."""

    figures: Mapping[str, float | str]  # accuracies in 0..1, seconds, backend, machine
    curve: Iterable[Mapping[str, float | str]]


@dataclass(frozen=True)
class Tables:
    """A study's two files, `<study>.csv` and `<study>-curves.csv`, in one folder."""

    folder: Path
    study: str

    @property
    def runs(self) -> Path:
        """A row for each trial."""
        return self.folder / f"{self.study}.csv"

    @property
    def curves(self) -> Path:
        """A row for each epoch of each trial, which its name stands in front of."""
        return self.folder / f"{self.study}-curves.csv"


def read_done(tables: Tables) -> dict[Trial, Row]:
    """What there is, by trial, in the file's order. Raises MetaplasticError for a strange row."""
    return {_trial(row, tables.runs): row for row in read_rows(tables.runs)}


def read_curves(tables: Tables) -> dict[str, list[Row]]:
    """The epochs of each trial, by its name."""
    curves: dict[str, list[Row]] = {}
    for row in read_rows(tables.curves):
        curves.setdefault(row["run"], []).append(row)
    return curves


def record(tables: Tables, trial: Trial, outcome: Outcome, lock: Path) -> None:
    """Add a trial to both files, which stay sorted; `lock` keeps other processes out meanwhile."""
    own = {name: _text(value) for name, value in dataclasses.asdict(trial).items()}
    row = own | {name: _text(value) for name, value in outcome.figures.items()}
    curve = [
        {"run": trial.name} | {name: _text(value) for name, value in epoch.items()}
        for epoch in outcome.curve
    ]
    with locked(lock):
        # The curves first: a trial whose row is there has its curve.
        others = [old for old in read_rows(tables.curves) if old["run"] != trial.name]
        write_rows(tables.curves, sorted([*others, *curve], key=lambda epoch: epoch["run"]))
        done = {**read_done(tables), trial: row}
        write_rows(tables.runs, [done[key] for key in sorted(done)])


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, waiting for it; a process that dies lets go of it."""
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
    """The rows of a CSV file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Replace the file at once; its columns are those of all rows, in the order they come."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.getvalue())
