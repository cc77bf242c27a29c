"""Where the workers count for /metrics: a folder in memory, for as long as the service runs."""

import atexit
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client's
_PREFIX = "metaplastic-"
SCRAPES = "lock"  # between those who read the counts and those who add them up
_LOCK = "alive"  # locked while the service of a folder runs


def memory_folder() -> str | None:
    """A folder that lies in memory; None where there is none that may be written to."""
    folder = "/dev/shm"  # noqa: S108
    return folder if os.access(folder, os.W_OK) else None


def count_together() -> None:
    """Have this process and those that it forks count in one folder, until this one ends.

    To be called before prometheus-client is imported. A folder that the variable names is left as
    it is.
    """
    if not os.environ.get(VARIABLE):
        until_the_end = ExitStack()
        until_the_end.enter_context(counting_folder(memory_folder()))
        atexit.register(until_the_end.close)


@contextmanager
def counting_folder(memory: str | None) -> Iterator[None]:
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
