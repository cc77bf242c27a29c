"""A model's bytes, which all workers share, and its session, which each worker has for itself."""

import hashlib
import logging
import mmap
import os
import time
from pathlib import Path

from app.catalogue.network import ModelError, Network, open_network
from models.files import open_regular

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds until a failed session is tried again
_log = logging.getLogger("gunicorn.error")


class ModelBytes:
    """The bytes of a file, hashed once and kept outside of any file: what was checked is opened.

    They lie in memory that a fork shares. It is no worker's own, and a worker that has read them
    gives its view of them back.
    """

    def __init__(self, path: Path) -> None:
        """Read the file. Raises OSError."""
        with open_regular(path) as file:
            self._size = os.fstat(file.fileno()).st_size
            self._memory = mmap.mmap(-1, max(1, self._size))
            with memoryview(self._memory)[: self._size] as view:
                file.readinto(view)
                self.sha256 = hashlib.sha256(view).hexdigest()
        self._look_away()

    def read(self) -> bytes:
        """A copy."""
        data = self._memory[: self._size]
        self._look_away()
        return data

    def _look_away(self) -> None:
        """Have the pages counted as nobody's; shared memory keeps what is in them."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED)


class Session:
    """A model as this process runs it: opened when first asked for.

    Where that fails, it may be for a reason that passes, such as too little memory: it is tried
    again after a pause that doubles.
    """

    def __init__(
        self, content: ModelBytes, image: tuple[int, int, int], classes: int, name: str
    ) -> None:
        self._content, self._image, self._classes, self._name = content, image, classes, name
        self._network: Network | None = None
        self._pause = 0.0
        self._next_try = 0.0  # on the monotonic clock
        self.problem = ""  # why it could not be opened at the last try

    @property
    def tried(self) -> bool:
        """Whether it has been asked for."""
        return self._network is not None or self._pause > 0

    def open(self) -> Network | None:
        """The network; None where it cannot be run now."""
        if self._network is None and time.monotonic() >= self._next_try:
            self._try()
        return self._network

    def _try(self) -> None:
        try:
            self._network = open_network(self._content.read(), self._image, self._classes)
        except (ModelError, MemoryError, OSError) as error:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE) or _FIRST_PAUSE
            self._next_try = time.monotonic() + self._pause
            self.problem = f"{self._name}: {error}"
            _log.error("left out for %g s: %s", self._pause, self.problem)
            return
        if self.problem:
            self.problem = ""
            _log.warning("served again: %s", self._name)
