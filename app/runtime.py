"""What a running service shares: a folder in memory, and the state of reloads.

The folder lives as long as the service. The workers count in it for /metrics.
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

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client's
_PREFIX = "metaplastic-"
SCRAPES = "lock"  # between those who read the counts and those who add them up
TAKEOVER_SECONDS = 20.0  # seconds that new workers have to take over
_LOCK = "alive"  # locked while the service of a folder runs


def memory_folder() -> str | None:
    """A folder that lies in memory; None where there is none that may be written to."""
    folder = "/dev/shm"  # noqa: S108
    return folder if os.access(folder, os.W_OK) else None


def use_runtime_folder() -> None:
    """Have this process and those that it forks count in one folder, until this one ends.

    To be called before prometheus-client is imported. A folder that the variable names is left as
    it is.
    """
    if not os.environ.get(VARIABLE):
        until_the_end = ExitStack()
        until_the_end.enter_context(runtime_folder(memory_folder()))
        atexit.register(until_the_end.close)


@contextmanager
def runtime_folder(memory: str | None) -> Iterator[None]:
    """Name an empty folder, in `memory` where that can be, in the variable; remove it at the end.

    Also removes what services left behind that were killed.
    """
    parent = Path(memory or tempfile.gettempdir())
    for folder in parent.glob(f"{_PREFIX}*"):
        _remove_if_left_behind(folder)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    owner = os.getpid()
    with (folder / _LOCK).open("w") as lock:
        (folder / SCRAPES).touch()
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.environ[VARIABLE] = str(folder)
        try:
            yield
        finally:
            if os.getpid() == owner:  # a worker leaves through here too
                shutil.rmtree(folder, ignore_errors=True)


def _remove_if_left_behind(folder: Path) -> None:
    try:
        with (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return  # in use, somebody else's, or being made


class Progress:
    """The master's reloads, as its workers see them: in memory that they share.

    Each has a number. It says which began last, which ended last, and whether that one succeeded.
    """

    _NUMBERS = struct.Struct("=QQ?")

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self._NUMBERS.size)

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
        """The number of the reload that begins."""
        number = self.begun + 1
        self._NUMBERS.pack_into(self._memory, 0, number, self.ended, self.succeeded)
        return number

    def end(self, number: int, succeeded: bool) -> None:
        """The reload `number` is over."""
        self._NUMBERS.pack_into(self._memory, 0, number, number, succeeded)


@dataclass(frozen=True)
class Unloaded:
    """The names of the models that were unloaded: they stay so until loaded, or until a restart."""

    path: Path | None  # shared by master and workers; None outside a service of ours

    @classmethod
    def of_this_service(cls) -> "Unloaded":
        folder = os.environ.get(VARIABLE)
        return cls(Path(folder) / "unloaded.json" if folder else None)

    def read(self) -> frozenset[str]:
        if self.path is None or not self.path.exists():
            return frozenset()
        return frozenset(json.loads(self.path.read_text()))

    def write(self, names: Iterable[str]) -> None:
        """Raise RequestError 503 where there is no room."""
        if self.path is None:
            return
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            partial.write_text(json.dumps(sorted(names)))
            partial.replace(self.path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            message = f"What is unloaded cannot be noted down ({error.strerror}). Nothing changed."
            raise RequestError(503, "not_reloaded", message) from error
