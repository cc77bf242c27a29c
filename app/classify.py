"""Classify the pictures of a folder from the command line, without a server.

    python -m app.classify FOLDER --model cifar10/googlenet --out results.csv

writes a row for each picture in FOLDER and its subfolders. If it is stopped, the same command
continues where it was. Files that cannot be read are listed and skipped, and the next run tries
them again.

Exit status: 0 if all files are classified, 1 if some were skipped, 2 if the command could not start
(the message says why), 130 if it was interrupted.
"""

import argparse
import csv
import io
import os
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from app.catalogue.catalogue import Model
from app.catalogue.load import load_catalogue
from app.catalogue.network import BATCH
from app.errors import RequestError
from app.images.readings import Prepared
from app.images.upload import Upload
from app.predict.classify import prepare_each, usable
from app.predict.recognition import recognise
from app.settings import MEBIBYTE, Settings, StartError
from app.telemetry.logs import escape_commands
from models.terminal import ArgumentParser, one_line, printable, say

COLUMNS = ("file", "label", "probability", "in_distribution", "model", "version")
# Spreadsheets run a cell that begins with one of these as a formula.
_FORMULA = ("=", "+", "-", "@")
_MARKED = ("\t", "\r", "\n", "'")
DONE, SKIPPED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130  # exit statuses
_BAR = 24  # width of the progress bar in characters


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    escape_commands()
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.from_environment(os.environ)
        model = _find_model(settings, options.model, options.rule)
        if not options.folder.is_dir():
            raise StartError(f"{options.folder} is not a folder.")
        finished = _finish_rows(options.out, model)
        names = [
            name
            for name in _names(options.folder, options.out)
            if plain(_printable(name)) not in finished
        ]
        with options.out.open("a", encoding="utf-8", newline="") as file:
            if file.tell() == 0:
                table(file).writerow(COLUMNS)
            skipped = _classify_all(options.folder, names, model, settings, file)
    except (StartError, RequestError) as error:
        say(error, sys.stderr)
        return UNUSABLE
    except OSError as error:
        say(f"{error.filename}: {error.strerror}", sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        print("\nStopped. Run the same command to continue.", file=sys.stderr)
        return INTERRUPTED
    before = f" ({len(finished)} were done before)" if finished else ""
    say(f"{len(names) - skipped} classified{before}, {skipped} skipped: {options.out}")
    return SKIPPED if skipped else DONE


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


def table(file: IO[str]) -> Any:
    """Return a CSV writer that quotes every cell.

    Some spreadsheets also split unquoted cells at `;` or tabs.
    """
    return csv.writer(file, quoting=csv.QUOTE_ALL)


@dataclass(frozen=True)
class Picture:
    """A file that was read and is prepared for the network."""

    name: str
    prepared: Prepared


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="python -m app.classify",
        description="Classify the pictures of a folder.",
        epilog="The models are those of METAPLASTIC_WEIGHTS, by default of the folder weights/.",
    )
    parser.add_argument("folder", type=Path, help="the folder of pictures, with its subfolders")
    parser.add_argument("--model", required=True, help="<dataset>/<architecture>: mnist/lenet")
    parser.add_argument("--rule", help="the learning rule (default: the endpoint's default rule)")
    parser.add_argument("--out", required=True, type=Path, help="the CSV file to write or continue")
    return parser


def _find_model(settings: Settings, name: str, rule: str | None) -> Model:
    """Return the default model of `name`. Raises StartError or RequestError."""
    endpoints = load_catalogue(settings).endpoints
    if name not in endpoints:
        raise StartError(f"There is no model {name!r}; there are: {', '.join(endpoints)}.")
    model = endpoints[name].find(rule)
    _ = model.network  # opened here, so that a problem is reported before any file is read
    return model


def _names(folder: Path, out: Path) -> list[str]:
    """Return the files in `folder` and below as relative paths, except hidden files and `out`."""
    found = []
    for place, below, files in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(files):
            path = Path(place, name)
            if not name.startswith(".") and path.is_file() and path.absolute() != out.absolute():
                found.append(str(path.relative_to(folder)))
    return found


def _finish_rows(out: Path, model: Model) -> set[str]:
    """Return the names of the files that `out` has answers for. Remove an incomplete last row.

    Raises StartError if `out` is not a table of answers of `model`.
    """
    if not out.exists() or out.stat().st_size == 0:
        return set()
    with out.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        text = file.read()  # line ends are not converted, since names may contain them
    rows = list(csv.reader(io.StringIO(text, newline="")))
    if tuple(rows[0]) != COLUMNS:
        raise StartError(f"{out} was not written by this command. Name another file with --out.")
    # A row is complete if it has all columns and, being the last, a line end.
    whole = [row for row in rows[1:] if len(row) == len(COLUMNS)]
    if not text.endswith("\n") and len(rows[-1]) == len(COLUMNS):
        whole.pop()
    wanted = (model.card.name, str(model.card.version))
    for row in whole:
        if (row[4], row[5]) != wanted:
            raise StartError(
                f"{out} has answers of {row[4]} version {row[5]}, not of {wanted[0]} version "
                f"{wanted[1]}. Name another file with --out, or remove it."
            )
    if len(whole) != len(rows) - 1:
        partial = out.with_name(f".{out.name}.partial")
        with partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            table(file).writerows([COLUMNS, *whole])
        partial.replace(out)
    # Tables of older versions contain control characters unescaped.
    return {printable(row[0]) for row in whole}


def _classify_all(
    folder: Path, names: list[str], model: Model, settings: Settings, file: IO[str]
) -> int:
    """Append a row for each of `names` to `file`, and return how many files were skipped."""
    writer, progress, skipped = table(file), Progress(len(names)), 0
    for start in range(0, len(names), BATCH):
        pictures = []
        for name in names[start : start + BATCH]:
            try:
                pictures.append(_read(folder, name, model, settings))
            except RequestError as error:
                skipped += 1
                progress.clear()
                say(f"skipped {one_line(_printable(name))}: {error.message}", sys.stderr)
        writer.writerows(_rows(pictures, model))
        file.flush()  # after each batch, so that an interruption loses little
        progress.show(min(start + BATCH, len(names)))
    progress.clear()
    return skipped


def _read(folder: Path, name: str, model: Model, settings: Settings) -> Picture:
    """Return the file `name` of `folder`, prepared. Raises RequestError if it cannot be used."""
    path = folder / name
    try:
        if path.stat().st_size > settings.max_request_bytes:
            limit = settings.max_request_bytes // MEBIBYTE
            raise RequestError(413, "too_large", f"The file is larger than {limit} MiB.")
        data = path.read_bytes()
    except OSError as error:
        raise RequestError(400, "unreadable", f"{error.strerror}.") from error
    (picture,) = prepare_each([Upload(data, None)], model.card.input, settings, raw=False)
    return Picture(name, usable(picture))


def _rows(pictures: list[Picture], model: Model) -> Iterator[tuple[str, ...]]:
    if not pictures:
        return
    prepared = [each.prepared for each in pictures]
    found = recognise(model.network, model.calibration, prepared)
    for picture, seen in zip(pictures, found, strict=True):
        probabilities = seen.outcome.probabilities[0]
        best = int(probabilities.argmax())
        yield (
            plain(_printable(picture.name)),
            plain(printable(model.card.labels[best])),
            f"{probabilities[best]:.6f}",
            str(bool(seen.outcome.in_distribution[0])).lower(),
            model.card.name,
            str(model.card.version),
        )


def _printable(name: str) -> str:
    """Return `name` as text without control characters, different for each name.

    Bytes that are not text and control characters become escapes, and a backslash becomes two.
    """
    doubled = os.fsencode(name).replace(b"\\", b"\\\\")
    return printable(doubled.decode("utf-8", "backslashreplace"))


class Progress:
    """A progress bar on a terminal; other streams get nothing."""

    def __init__(self, total: int, stream: IO[str] = sys.stderr) -> None:
        self.total = total
        self.stream = stream
        self.started = time.monotonic()
        self.shown = False

    def show(self, done: int) -> None:
        if not self.stream.isatty():
            return
        rate = done / max(1e-6, time.monotonic() - self.started)
        left = round((self.total - done) / rate)
        bar = "#" * (_BAR * done // self.total)
        line = (
            f"[{bar:<{_BAR}}] {done}/{self.total}  {rate:.0f}/s  {left // 60}:{left % 60:02} left"
        )
        print(f"\r\x1b[K{line}", end="", file=self.stream, flush=True)
        self.shown = True

    def clear(self) -> None:
        if self.shown:
            print("\r\x1b[K", end="", file=self.stream, flush=True)
            self.shown = False


if __name__ == "__main__":
    sys.exit(main())
