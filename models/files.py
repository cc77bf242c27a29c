"""Write files in one step, open regular files only, and know those that nobody means."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Replace the content of a file in one step. Readers see the old or the new content."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading bytes, without blocking.

    Raises OSError if it cannot be opened, and for a pipe, a device or a folder. Opening or reading
    one of those could block for ever.
    """
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    mode = os.fstat(number).st_mode
    if not stat.S_ISREG(mode):
        os.close(number)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return os.fdopen(number, "rb")


def read_regular(path: Path) -> bytes:
    """Return the content of a file. Raises OSError as `open_regular` does."""
    with open_regular(path) as file:
        return file.read()


def is_shown(name: str) -> bool:
    """Return whether a file or folder of this name is one of people: not hidden, no system's note.

    macOS and Windows put their notes into folders and archives.
    """
    return not name.startswith(".") and name not in ("__MACOSX", "Thumbs.db", "desktop.ini")
