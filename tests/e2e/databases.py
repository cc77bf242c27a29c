"""Real stores of votes: a SQLite file, and a PostgreSQL server of Debian's package."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import PATIENCE, free_port


def _programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, which Debian does not put on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    here = shutil.which("initdb")
    return found[-1].parent if found else Path(here).parent if here else None


class PostgreSQL:
    """A PostgreSQL server with an empty database, in a folder of its own."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.folder, self.port = programs, folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None
        # PostgreSQL refuses to run as root.
        self.user = "nobody" if os.getuid() == 0 else None
        if self.user:
            account = pwd.getpwnam(self.user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        data = str(folder / "data")
        self._run("initdb", "-D", data, "-U", "votes", "-A", "trust", "--no-sync")
        self.start()
        with contextlib.closing(self._connect("postgres")) as connection:
            connection.autocommit = True
            connection.execute("CREATE DATABASE votes")

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://votes:a-password@127.0.0.1:{self.port}/votes"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        command = [str(self.programs / "postgres"), "-D", str(self.folder / "data")]
        command += ["-p", str(self.port), "-h", "127.0.0.1", "-k", str(self.folder)]
        with (self.folder.parent / f"{self.folder.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, user=self.user, stdout=log, stderr=log, cwd=self.folder
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._connect("postgres").close()
                return
            except Exception:  # psycopg's, which may not be installed where this is read
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    def kill(self) -> None:
        """End the server and all its processes as a power failure of its machine would."""
        assert self.process
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        for pid in [self.process.pid, *map(int, children.split())]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    def stop(self) -> None:
        """Stop the server."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(PATIENCE)

    def _connect(self, database: str):
        import psycopg

        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="votes", dbname=database, connect_timeout=5
        )

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self.programs / program), *arguments],
            check=True,
            user=self.user,
            cwd=self.folder,
            capture_output=True,
        )


@contextlib.contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """Start a PostgreSQL server; skip the test where there is none."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    # Not in pytest's folder, which only its owner can enter.
    with tempfile.TemporaryDirectory(prefix="votes-", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        place.chmod(0o755)
        (place / "server").mkdir()
        server = PostgreSQL(programs, place / "server")
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def store_of_votes(kind: str, folder: Path) -> Iterator[str]:
    """Yield the URL of a new store: a file of SQLite in `folder`, or a PostgreSQL server."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'votes.db'}"
    else:
        with postgresql() as server:
            yield server.url
