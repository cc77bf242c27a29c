"""The table that a bulk job fills, as CSV or Parquet, and what becomes of pictures' names in it."""

import csv
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from app.bulk.sources import wanted
from app.settings import StartError
from models.terminal import printable

COLUMNS = ("file", "label", "probability", "in_distribution", "model", "version")
ERROR_COLUMNS = ("file", "error")
# Spreadsheets run a cell that begins with one of these as a formula.
_FORMULA = ("=", "+", "-", "@")
_MARKED = ("\t", "\r", "\n", "'")
_ROWS_AT_ONCE = 50_000
_C1 = re.compile("[\x80-\x9f]")  # control characters

# The names of an archive's files may be longer than the module allows at first.
csv.field_size_limit(2**31 - 1)


class Row(NamedTuple):
    """The answer about one picture, or why there is none."""

    file: str  # as `name_in_tables` returns it
    label: str = ""
    probability: str = ""  # 0..1, six decimals
    in_distribution: str = ""  # true or false, or empty if that is not known
    error: str = ""  # for people; not empty where there is no answer


class Identity(NamedTuple):
    """The model whose answers are in a table."""

    model: str
    version: str


def name_in_tables(name: str) -> str:
    r"""Return `name` as text without control characters, different for each name.

    Bytes that are not text become `\xe9`, control characters `\x1b` or `\u0085`, and a backslash
    becomes two.
    """
    doubled = os.fsencode(name).replace(b"\\", b"\\\\")
    text = doubled.decode("utf-8", "backslashreplace")
    return printable(_C1.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def plain(text: str) -> str:
    """Return `text` with an apostrophe before it if a spreadsheet might run it as a formula.

    That is the case if its first visible character begins a formula, also as a full-width
    character; if it begins with a line end or a tab, which a spreadsheet may drop; and if it begins
    with an apostrophe, so that the first apostrophe is always one that was added.
    """
    visible = next(
        (character for character in text if not character.isspace() and character.isprintable()), ""
    )
    formula = unicodedata.normalize("NFKC", visible) in _FORMULA
    return f"'{text}" if formula or text.startswith(_MARKED) else text


def csv_writer(file: IO[str]) -> Any:
    """Return a CSV writer that quotes every cell.

    Some spreadsheets also split unquoted cells at `;` or tabs.
    """
    return csv.writer(file, quoting=csv.QUOTE_ALL)


class Csv:
    """A table in CSV."""

    @staticmethod
    def name(name: str) -> str:
        """Return a name of `name_in_tables` as it stands in the table."""
        return plain(name)

    @staticmethod
    def read(path: Path) -> Iterator[tuple[str, ...]]:
        """Yield the complete rows. Raises StartError if the table has other columns.

        A row is complete if it has all columns and, being the last, a line end.
        """
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 1))
            ended = file.read() == b"\n"
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = csv.reader(file)  # line ends are not converted, since names may contain them
            try:
                if tuple(next(rows, ())) != COLUMNS:
                    raise _foreign(path)
                held: tuple[str, ...] | None = None  # the last row, until another one follows
                for row in rows:
                    if held is not None:
                        yield held
                    # Tables of older versions contain control characters unescaped.
                    held = (printable(row[0]), *row[1:]) if len(row) == len(COLUMNS) else None
                if held is not None and ended:
                    yield held
            except csv.Error as error:
                raise _foreign(path) from error

    @staticmethod
    def write(path: Path, rows: Iterable[tuple[str, ...]]) -> None:
        """Write a table of `rows`, and see that they are on the disk."""
        with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv_writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(rows)
            file.flush()
            os.fsync(file.fileno())


class Parquet:
    """A table in Parquet, with numbers as numbers."""

    @staticmethod
    def name(name: str) -> str:
        """Return a name of `name_in_tables` as it stands in the table: no spreadsheet reads it."""
        return name

    @staticmethod
    def read(path: Path) -> Iterator[tuple[str, ...]]:
        """Yield all rows. Raises StartError if the table has other columns, or is none."""
        parquet = wanted("pyarrow.parquet", "pyarrow", str(path))
        import pyarrow

        try:
            table = parquet.ParquetFile(path)
        except pyarrow.ArrowException as error:
            raise _foreign(path) from error
        if tuple(table.schema_arrow.names) != COLUMNS:
            raise _foreign(path)
        try:
            for batch in table.iter_batches(_ROWS_AT_ONCE):
                for file, label, probability, familiar, model, version in zip(
                    *(column.to_pylist() for column in batch.columns), strict=True
                ):
                    known = "" if familiar is None else str(familiar).lower()
                    yield file, label, f"{probability:.6f}", known, model, str(version)
        except (TypeError, ValueError) as error:  # cells without a value, or with another kind
            raise _foreign(path) from error

    @staticmethod
    def write(path: Path, rows: Iterable[tuple[str, ...]]) -> None:
        """Write a table of `rows`, and see that they are on the disk."""
        parquet = wanted("pyarrow.parquet", "pyarrow", str(path))
        import pyarrow

        types = ("string", "string", "float64", "bool", "string", "int64")
        schema = pyarrow.schema(list(zip(COLUMNS, map(pyarrow.type_for_alias, types), strict=True)))
        with path.open("wb") as file, parquet.ParquetWriter(file, schema) as writer:
            for some in _in_groups(rows, _ROWS_AT_ONCE):
                files, labels, probabilities, familiar, models, versions = zip(*some, strict=True)
                known = ({"true": True, "false": False}.get(text) for text in familiar)
                columns = [files, labels, map(float, probabilities), known, models]
                columns.append(map(int, versions))
                arrays = [
                    pyarrow.array(list(values), field.type)
                    for values, field in zip(columns, schema, strict=True)
                ]
                writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
        with path.open("rb") as written:
            os.fsync(written.fileno())


Format = type[Csv] | type[Parquet]


def format_of(out: Path) -> Format:
    """Return the format of the table `out`, by the ending of its name: Parquet, or else CSV.

    Raises StartError if pyarrow is missing for it.
    """
    if out.suffix.lower() != ".parquet":
        return Csv
    wanted("pyarrow.parquet", "pyarrow", str(out))
    return Parquet


def _in_groups(rows: Iterable[tuple[str, ...]], size: int) -> Iterator[list[tuple[str, ...]]]:
    group = []
    for row in rows:
        group.append(row)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def finished_rows(out: Path, identity: Identity) -> Iterator[tuple[str, ...]]:
    """Yield the complete rows of the table `out`; none if it does not exist.

    Raises StartError if it is no table of answers of the model.
    """
    if not out.exists():
        return
    if not out.is_file():  # it would be replaced
        raise StartError(f"{out} is not a file. Name another one with --out.")
    if out.stat().st_size == 0:
        return
    for row in format_of(out).read(out):
        if row[4:6] != tuple(identity):
            raise StartError(
                f"{out} has answers of {row[4]} version {row[5]}, not of {identity.model} version "
                f"{identity.version}. Name another file with --out, or remove it."
            )
        yield row


def _foreign(out: Path) -> StartError:
    return StartError(f"{out} was not written by this command. Name another file with --out.")
