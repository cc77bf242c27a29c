"""Folders for unfinished files, which are removed whatever happens."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield a new folder in `parent` for unfinished files, and remove it afterwards.

    Its name begins with `prefix`. Those that killed processes left there are removed first: the
    process that works on one holds its lock, and the system releases the locks of the dead.
    """
    for left in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError), _locked(left):
            shutil.rmtree(left, ignore_errors=True)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with contextlib.ExitStack() as lock:
            try:
                lock.enter_context(_locked(folder))
            except (BlockingIOError, FileNotFoundError):  # taken for abandoned before it was locked
                continue
            except OSError:  # a file system without locks: nobody else removes it there
                pass
            if not folder.exists():
                continue
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder. Raises BlockingIOError if another process has, OSError if that cannot be."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(number)
