"""Classify many pictures from the command line, without a server.

    python -m app.classify SOURCE --model cifar10/googlenet --out results.csv

writes a row for each picture of SOURCE: a folder with its subfolders, a file with a list of paths,
a tar or zip archive, a Parquet file with a column of bytes, or a URL such as s3://bucket/folder. If
it is stopped, the same command continues where it was. Pictures that cannot be read are listed in
results.errors.csv, and the next run tries them again. With --on, the processes of a Ray cluster do
the work.

Exit status: 0 if all pictures are classified, 1 if some were skipped, 2 if the command could not
start or go on (the message says why), 130 if it was interrupted by Ctrl-C or SIGTERM.
"""

import argparse
import csv
import itertools
import math
import os
import signal
import sqlite3
import sys
import traceback
import zlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from app.bulk.answers import ModelFile, Order, classify
from app.bulk.job import About, Job, damaged, folder_of
from app.bulk.merge import Merged, check_errors, errors_path, merge
from app.bulk.parts import part_numbers
from app.bulk.processes import Processes, cores
from app.bulk.progress import Progress
from app.bulk.runner import Runner
from app.bulk.sources import Source, find_source, pictures_in
from app.bulk.tables import Identity, finished_rows, format_of, name_in_tables
from app.bulk.work import work_through
from app.catalogue.catalogue import Model
from app.catalogue.load import load_catalogue
from app.errors import RequestError
from app.settings import Settings, StartError
from app.telemetry.logs import escape_commands
from models.terminal import ArgumentParser, one_line, say

DONE, SKIPPED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130  # exit statuses
CHUNK = 256  # pictures: about a second of work
PATIENCE = 600.0  # seconds
_LISTED = 20  # errors that are printed
_LONGEST = 300  # characters of a name and of an error that are printed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    escape_commands()
    options = parser().parse_args(arguments)
    try:
        if options.out.is_symlink():  # it would be replaced, and not the table that it leads to
            options.out = Path(os.path.realpath(options.out))
        return _fill(options)
    except (StartError, RequestError) as error:
        say(error, sys.stderr)
    except OSError as error:
        say(f"{error.filename or options.out}: {error.strerror or error}", sys.stderr)
    except sqlite3.OperationalError as error:
        say(f"{folder_of(options.out)} cannot be written: {error}", sys.stderr)
    except sqlite3.DatabaseError as error:
        say(damaged(options.out, error), sys.stderr)
    except KeyboardInterrupt:
        print("\nStopped. Run the same command to continue.", file=sys.stderr)
        return INTERRUPTED
    except Exception:  # Python's own status for it would be that of skipped pictures
        say(traceback.format_exc(), sys.stderr)
    return UNUSABLE


def _fill(options: argparse.Namespace) -> int:
    """Fill the table, and return the exit status."""
    out: Path = options.out
    settings = Settings.from_environment(os.environ)
    model = _find_model(settings, options.model, options.rule)
    source = find_source(options.source)
    identity = Identity(model.card.name, str(model.card.version))
    next(finished_rows(out, identity), None)  # before anything is written: is it a table of it?
    check_errors(out)
    with closing(Job(out, _about(source, options.share, model))) as job:
        before, merged = _run(options, job, source, model, settings)
    _list_errors(out, merged.skipped)
    told = f" ({before} were done before)" if before else ""
    say(f"{merged.classified} classified{told}, {merged.skipped} skipped: {out}")
    return SKIPPED if merged.skipped else DONE


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = ArgumentParser(
        prog="python -m app.classify",
        description="Classify many pictures.",
        epilog="The models are those of METAPLASTIC_WEIGHTS, by default of the folder weights/.",
    )
    parser.add_argument(
        "source",
        help="a folder of pictures, with its subfolders; a file with a list of paths; a .tar, .zip "
        "or .parquet file; or a URL that fsspec knows, such as s3://bucket/folder",
    )
    parser.add_argument("--model", required=True, help="<dataset>/<architecture>: mnist/lenet")
    parser.add_argument("--rule", help="the learning rule (default: the endpoint's default rule)")
    parser.add_argument(
        "--out",
        required=True,
        type=_table,
        help="the table to write or continue: .parquet, or else CSV",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        # No default here: argparse would take the same number for an option that is not given.
        "--processes",
        type=_count,
        help="on this machine (default: its cores)",
    )
    where.add_argument(
        "--on",
        metavar="auto|HOST:PORT",
        help="work on a Ray cluster: that of this machine, or the one whose head is at HOST:PORT",
    )
    parser.add_argument(
        "--share",
        type=_share,
        default=(0, 1),
        metavar="NUMBER/COUNT",
        help="only a part of the pictures, from 0/COUNT to COUNT-1/COUNT, chosen by their names",
    )
    parser.add_argument(
        "--chunk-size", type=_count, default=CHUNK, help=f"pictures a task (default: {CHUNK})"
    )
    parser.add_argument(
        "--patience",
        type=_seconds,
        default=PATIENCE,
        metavar="SECONDS",
        help=f"stop if no task is finished for so long (default: {PATIENCE:g})",
    )
    return parser


def _table(text: str) -> Path:
    if "://" in text:
        raise argparse.ArgumentTypeError(f"expected a file of this machine, found {text!r}")
    return Path(text)


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 6 or not 1 <= int(text) <= 100_000:
        message = f"expected a whole number from 1 to 100000, found {text!r}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, found {text!r}")
    return seconds


def _share(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise argparse.ArgumentTypeError(f"expected 0/4 to 3/4 or the like, found {text!r}")
    return int(number), int(count)


def _find_model(settings: Settings, name: str, rule: str | None) -> Model:
    """Return the default model of `name`. Raises StartError or RequestError."""
    catalogue = load_catalogue(replace(settings, model=name))
    endpoints = catalogue.endpoints
    if name not in endpoints:
        if catalogue.default_left_out:  # it is there, and cannot be used
            raise StartError(catalogue.default_left_out)
        raise StartError(f"There is no model {name!r}; there are: {', '.join(endpoints)}.")
    for folder, problem in catalogue.left_out.items():  # another version of it may answer
        if folder.startswith(f"{name}/"):
            say(f"left out: {problem}", sys.stderr)
    return endpoints[name].find(rule)


def _about(source: Source, share: tuple[int, int], model: Model) -> About:
    number, count = share
    part = f", share {number}/{count}" if count > 1 else ""
    path = source.path if source.kind == "fsspec" else os.path.realpath(source.path)
    return About(
        source=f"{source.kind} {name_in_tables(path)}{part}",
        model=model.card.name,
        version=str(model.card.version),
        file=model.runs,
        sha256=model.content.sha256,
    )


def _run(
    options: argparse.Namespace, job: Job, source: Source, model: Model, settings: Settings
) -> tuple[int, Merged]:
    """Do the work of a job. Return how many rows the table had before, and what was added.

    Raises StartError and OSError.
    """
    out: Path = options.out
    identity = Identity(model.card.name, str(model.card.version))
    kind = format_of(out)
    root = os.path.realpath(source.path)
    beside = Path(os.path.realpath(out.parent))
    ours = {str(beside / path.name) for path in (out, errors_path(out))}
    within = str(beside / folder_of(out).name) + os.sep

    def is_theirs(name: str) -> bool:
        path = str(Path(root, name))
        return path not in ours and not path.startswith(within)

    listed = pictures_in(source)
    if source.kind == "folder":
        listed = (picture for picture in listed if is_theirs(picture.name))
    number, count = options.share
    job.plan(
        (one for one in listed if zlib.crc32(os.fsencode(one.name)) % count == number),
        (row[0] for row in finished_rows(out, identity)),
        lambda name: kind.name(name_in_tables(os.fsdecode(name))),
        options.chunk_size,
    )
    finished = part_numbers(job.folder)
    total, left = job.pictures(), job.pictures(finished)
    order = Order(
        source=source,
        parts=job.folder.absolute(),
        model=ModelFile(model.folder.absolute(), model.runs, model.content.sha256),
        settings=settings,
        answer=classify,
    )
    if left:
        chunks = len(job.numbers()) - len(finished)
        progress = Progress(total, total - left)
        with closing(_runner(options, order, chunks)) as runner:
            try:
                work_through(job, runner, progress, options.patience)
            finally:
                progress.clear()
    return job.answered, merge(job, out, identity)


def _runner(options: argparse.Namespace, order: Order, chunks: int) -> Runner:
    if options.on is not None:
        from app.bulk.on_ray import Cluster

        return Cluster(options.on, order)
    return Processes(order, min(options.processes or cores(), chunks))


def _list_errors(out: Path, skipped: int) -> None:
    """Print the first errors of the last run."""
    if not skipped:
        return
    with errors_path(out).open(encoding="utf-8", newline="") as file:
        for row in itertools.islice(csv.DictReader(file), _LISTED):
            name, error = _short(row["file"].removeprefix("'")), _short(row["error"])
            say(f"skipped {name}: {error}", sys.stderr)
    if skipped > _LISTED:
        say(f"and {skipped - _LISTED} more, in {errors_path(out)}", sys.stderr)


def _short(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # Without a handler, the first process of a container does not end by SIGTERM.
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(main())
