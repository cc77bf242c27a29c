"""Where the workers count for /metrics: a folder in memory, for as long as the service runs."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client's
_PREFIX = "metaplastic-"
SCRAPES = "lock"  # between those who read the counts and those who add them up
_LOCK = "alive"  # locked while the service of a folder runs


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
