"""State that a running service shares: a folder in memory, and the progress of reloads.

The folder lives as long as the service. The workers keep their counts for /metrics in it.
"""

import atexit
import fcntl
import json
import mmap
import os
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.errors import RequestError

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client reads its folder from it
_PREFIX = "metaplastic-"
SCRAPES = "lock"  # locked while the counts are read, or added up
TAKEOVER_SECONDS = 20.0  # time that new workers have to take over
_LOCK = "alive"  # locked while the service of the folder runs


def memory_folder() -> str | None:
    """Return a writable folder in memory, or None."""
    folder = "/dev/shm"  # noqa: S108
    return folder if os.access(folder, os.W_OK) else None


def use_runtime_folder() -> None:
    """Make one folder for this process and those that it forks. It is removed when this one ends.

    Call it before prometheus-client is imported. A folder that the variable names is left as it is.
    """
    if not os.environ.get(VARIABLE):
        until_the_end = ExitStack()
        until_the_end.enter_context(runtime_folder(memory_folder()))
        atexit.register(until_the_end.close)


@contextmanager
def runtime_folder(memory: str | None) -> Iterator[None]:
    """Make an empty folder and name it in VARIABLE; remove it at the end.

    The folder is in `memory` if that is a path, else in the system's folder for temporary files.
    Folders of services that were killed are removed too.
    """
    parent = Path(memory or tempfile.gettempdir())
    for folder in parent.glob(f"{_PREFIX}*"):
        _remove_if_left_behind(folder)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    owner = os.getpid()
    with (folder / _LOCK).open("w") as lock:
        (folder / SCRAPES).touch()
        # The kernel releases this lock when the service ends, even if it is killed. Forked workers
        # share the lock.
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.environ[VARIABLE] = str(folder)
        try:
            yield
        finally:
            if os.getpid() == owner:  # a forked worker also leaves this block
                shutil.rmtree(folder, ignore_errors=True)


def _remove_if_left_behind(folder: Path) -> None:
    # The lock can be taken only if the service that made the folder has ended.
    try:
        with (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return  # in use, owned by another user, or just being made


class Progress:
    """The master's reloads, in memory that it shares with its workers.

    Each reload has a number. The memory holds the number that began last, the number that ended
    last, and whether that one succeeded.
    """

    _NUMBERS = struct.Struct("=QQ?")

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self._NUMBERS.size)  # anonymous memory, shared by a fork

    @property
    def begun(self) -> int:
        return int(self._NUMBERS.unpack_from(self._memory)[0])

    @property
    def ended(self) -> int:
        return int(self._NUMBERS.unpack_from(self._memory)[1])

    @property
    def succeeded(self) -> bool:
        return bool(self._NUMBERS.unpack_from(self._memory)[2])

    def begin(self) -> int:
        """Return the number of the reload that begins now."""
        number = self.begun + 1
        self._NUMBERS.pack_into(self._memory, 0, number, self.ended, self.succeeded)
        return number

    def end(self, number: int, succeeded: bool) -> None:
        """Record the end of the reload `number`."""
        self._NUMBERS.pack_into(self._memory, 0, number, number, succeeded)


@dataclass(frozen=True)
class Unloaded:
    """The names of the unloaded models. A restart of the service loads them again."""

    path: Path | None  # shared by master and workers; None under another server

    @classmethod
    def of_this_service(cls) -> "Unloaded":
        folder = os.environ.get(VARIABLE)
        return cls(Path(folder) / "unloaded.json" if folder else None)

    def read(self) -> frozenset[str]:
        if self.path is None or not self.path.exists():
            return frozenset()
        return frozenset(json.loads(self.path.read_text()))

    def write(self, names: Iterable[str]) -> None:
        """Store the `names`. Raises RequestError 503 if there is no space."""
        if self.path is None:
            return
        # Written beside the file and renamed, so that no reader sees a part of it.
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            partial.write_text(json.dumps(sorted(names)))
            partial.replace(self.path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            message = (
                f"The list of unloaded models cannot be written ({error.strerror}). "
                "Nothing has changed."
            )
            raise RequestError(503, "not_reloaded", message) from error
