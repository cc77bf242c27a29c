"""What is written down of a bulk job, beside its table: the model, the pictures, the chunks.

It is an SQLite file, so that the memory of the command does not grow with the number of pictures,
and so that a kill leaves it as it was before or after a change. Only the command reads and writes
it; the processes that classify get the names of their chunk.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from app.bulk.parts import part_numbers, remove_parts
from app.bulk.sources import Listed
from app.settings import StartError

FOLDER = ".job"  # the ending of the job's folder, behind the name of the table
_TABLES = """
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
-- `run` is the number of the start that saw the picture last. `chunk` is set while the picture is
-- in a chunk, `done` if the table has its answer.
CREATE TABLE IF NOT EXISTS pictures (
    number INTEGER PRIMARY KEY, name BLOB UNIQUE NOT NULL, place TEXT NOT NULL,
    run INTEGER NOT NULL, chunk INTEGER, done INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS by_chunk ON pictures (chunk) WHERE chunk IS NOT NULL;
-- A chunk's number is never used again: its part may still be written by a process of before.
CREATE TABLE IF NOT EXISTS chunks (
    number INTEGER PRIMARY KEY AUTOINCREMENT, deaths INTEGER NOT NULL DEFAULT 0);
"""


@dataclass(frozen=True)
class About:
    """What must stay the same until a job is finished."""

    source: str  # its kind and its path
    model: str
    version: str
    file: str  # the file of the model that runs
    sha256: str  # of that file


class Chunk(NamedTuple):
    """Some pictures that one process classifies in one go."""

    number: int
    pictures: tuple[Listed, ...]
    deaths: int = 0  # processes that died on it


class Job:
    """The written job of one table. Close it after use."""

    def __init__(self, out: Path, about: About) -> None:
        """Open the job of the table `out`, or a new one, which `plan` writes down.

        Raises StartError if it is another job, or if another process works on it; OSError if its
        folder cannot be made, and sqlite3.OperationalError if nothing can be written in it.
        """
        self.folder = folder_of(out)
        self.folder.mkdir(exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise StartError(f"Another process already fills {out}. Wait for its end.") from error
        self._about = asdict(about)
        try:
            self._database = sqlite3.connect(self.folder / "job.sqlite")
        except sqlite3.OperationalError:
            self._lock.close()
            raise
        try:
            self._open(out)
        except sqlite3.OperationalError:  # such as a disk that is full
            self.close()
            raise
        except sqlite3.DatabaseError as error:
            self.close()
            raise damaged(out, error) from error
        except StartError:
            self.close()
            raise

    def _open(self, out: Path) -> None:
        self._database.executescript(_TABLES)
        known = dict(self._database.execute("SELECT key, value FROM about"))
        if not known:
            remove_parts(self.folder)  # of a job whose file is gone
        for key, value in self._about.items():
            if known.setdefault(key, value) != value:
                raise StartError(
                    f"{self.folder} is of another job: its {key} is {known[key]}, not {value}. "
                    f"Name another file with --out, or remove {out} and {self.folder}."
                )
        self._run = int(known.get("run", 0)) + 1

    def close(self) -> None:
        """Close the files, and let others work on the job."""
        self._database.close()
        self._lock.close()

    def plan(
        self,
        pictures: Iterable[Listed],
        answered: Iterable[str],
        cell: Callable[[bytes], str],
        size: int,
    ) -> None:
        """Write down `pictures`, and put those into chunks of `size` that are in none.

        `answered` are the names in the table; `cell` returns a picture's name as the table has it.
        Pictures that are gone from the source are left out. Parts of unknown chunks are removed:
        their rows are in the table. If `pictures` raises an error, nothing is written.
        """
        with self._database as database:
            database.executemany(
                "INSERT OR REPLACE INTO about VALUES (?, ?)",
                list({**self._about, "run": str(self._run)}.items()),
            )
            database.executemany(
                "INSERT INTO pictures (name, place, run) VALUES (?, ?, ?) ON CONFLICT (name) "
                "DO UPDATE SET place = excluded.place, run = excluded.run",
                ((os.fsencode(one.name), one.place, self._run) for one in pictures),
            )
        self._mark(answered, cell)
        with self._database as database:
            (last,) = self._one(
                "SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'chunks'), 0)"
            )
            database.execute(
                "UPDATE pictures SET chunk = ? + place_in_line / ? FROM ("
                "SELECT number AS numbered, ROW_NUMBER() OVER (ORDER BY number) - 1 "
                "AS place_in_line FROM pictures WHERE chunk IS NULL AND NOT done AND run = ?"
                ") WHERE number = numbered",
                (last + 1, size, self._run),
            )
            database.execute(
                "INSERT INTO chunks (number) SELECT DISTINCT chunk FROM pictures WHERE chunk > ? "
                "ORDER BY chunk",
                (last,),
            )
        remove_parts(self.folder, part_numbers(self.folder) - set(self.numbers()))

    def _mark(self, answered: Iterable[str], cell: Callable[[bytes], str]) -> None:
        """Note which pictures the table has answers for."""
        self._database.create_function("cell", 1, cell, deterministic=True)
        with self._database as database:
            database.execute("DROP TABLE IF EXISTS temp.answered")
            database.execute("CREATE TEMP TABLE answered (cell TEXT PRIMARY KEY) WITHOUT ROWID")
            database.executemany(
                "INSERT OR IGNORE INTO answered VALUES (?)", ((name,) for name in answered)
            )
            database.execute(
                "UPDATE pictures SET done = 0 WHERE done AND cell(name) NOT IN answered"
            )
            if self.answered:
                database.execute(
                    "UPDATE pictures SET done = 1, chunk = NULL "
                    "WHERE NOT done AND cell(name) IN answered"
                )

    @property
    def answered(self) -> int:
        """Return how many pictures the table has answers for, as `plan` found it."""
        (count,) = self._one("SELECT COUNT(*) FROM answered")
        return int(count)

    def has_answer(self, cell: str) -> bool:
        """Return whether the table has an answer under this name, as `plan` found it."""
        return bool(self._one("SELECT EXISTS (SELECT 1 FROM answered WHERE cell = ?)", cell)[0])

    def numbers(self) -> list[int]:
        """Return the numbers of all chunks, in their order."""
        query = "SELECT number FROM chunks ORDER BY number"
        return [number for (number,) in self._database.execute(query)]

    def pictures(self, finished: Iterable[int] = ()) -> int:
        """Return how many pictures are in chunks, those of `finished` chunks left out."""
        (count,) = self._one(
            "SELECT COUNT(*) FROM pictures WHERE chunk IS NOT NULL AND run = ?", self._run
        )
        return int(count) - sum(self._size(number) for number in finished)

    def _size(self, number: int) -> int:
        (count,) = self._one(
            "SELECT COUNT(*) FROM pictures WHERE chunk = ? AND run = ?", number, self._run
        )
        return int(count)

    def chunk(self, number: int) -> Chunk:
        """Return the chunk with this number."""
        (deaths,) = self._one("SELECT deaths FROM chunks WHERE number = ?", number)
        rows = self._database.execute(
            "SELECT name, place FROM pictures WHERE chunk = ? AND run = ? ORDER BY number",
            (number, self._run),
        )
        return Chunk(number, tuple(Listed(os.fsdecode(name), at) for name, at in rows), deaths)

    def note_death(self, chunk: Chunk) -> Chunk:
        """Write down that a process died on `chunk`, and return the chunk with its new count."""
        with self._database as database:
            database.execute(
                "UPDATE chunks SET deaths = deaths + 1 WHERE number = ?", (chunk.number,)
            )
        return chunk._replace(deaths=chunk.deaths + 1)

    def halve(self, chunk: Chunk) -> list[Chunk]:
        """Put the pictures of `chunk`, of which there are several, into two new chunks."""
        middle = len(chunk.pictures) // 2
        halves = []
        with self._database as database:
            for half in chunk.pictures[:middle], chunk.pictures[middle:]:
                number = database.execute("INSERT INTO chunks DEFAULT VALUES").lastrowid
                assert number is not None
                halves.append(Chunk(number, half))
                database.executemany(
                    "UPDATE pictures SET chunk = ? WHERE name = ?",
                    ((number, os.fsencode(picture.name)) for picture in half),
                )
            database.execute("DELETE FROM chunks WHERE number = ?", (chunk.number,))
        return halves

    def forget_chunks(self) -> None:
        """Take all pictures out of their chunks, whose rows are in the table now."""
        with self._database as database:
            database.execute("UPDATE pictures SET chunk = NULL WHERE chunk IS NOT NULL")
            database.execute("DELETE FROM chunks")
        remove_parts(self.folder)

    def _one(self, query: str, *values: object) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self._database.execute(query, values).fetchone()
        return row


def damaged(out: Path, error: sqlite3.DatabaseError) -> StartError:
    """Return what is said of a job that cannot be read."""
    folder = folder_of(out)
    return StartError(
        f"{folder / 'job.sqlite'} cannot be read: {error}. Remove the folder {folder} to begin "
        f"again; the rows of {out} are kept."
    )


def folder_of(out: Path) -> Path:
    """Return the folder of the job that fills the table `out`."""
    return out.with_name(out.name + FOLDER)
