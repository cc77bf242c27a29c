"""A model's bytes, which all workers share, and its session, which each worker opens for itself."""

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
    """The bytes of a file, hashed once and kept in memory: the bytes that were checked are run.

    They are in memory that forked workers share. A worker that has read them unmaps its pages
    again, so that they do not count as its own memory.
    """

    def __init__(self, path: Path) -> None:
        """Read the file `path`. Raises OSError."""
        with open_regular(path) as file:
            self._size = os.fstat(file.fileno()).st_size
            self._memory = mmap.mmap(-1, max(1, self._size))  # an empty mapping is an error
            with memoryview(self._memory)[: self._size] as view:
                file.readinto(view)
                self.sha256 = hashlib.sha256(view).hexdigest()
        self._look_away()

    def read(self) -> bytes:
        """Return a copy of the bytes."""
        data = self._memory[: self._size]
        self._look_away()
        return data

    def _look_away(self) -> None:
        """Unmap the pages from this process. The shared memory keeps their content."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED)


class Session:
    """The network of a model in this process, opened by the first call.

    Opening may fail for a passing reason, such as too little memory, so it is tried again after a
    pause that doubles.
    """

    def __init__(
        self,
        content: ModelBytes,
        image: tuple[int, int, int],
        classes: int,
        name: str,
        providers: tuple[str, ...],
    ) -> None:
        self._content, self._image, self._classes, self._name = content, image, classes, name
        self._providers = providers
        self._network: Network | None = None
        self._pause = 0.0
        self._next_try = 0.0  # on the monotonic clock
        self.problem = ""  # why the last attempt failed

    @property
    def tried(self) -> bool:
        """Return whether opening was tried."""
        return self._network is not None or self._pause > 0

    def open(self) -> Network | None:
        """Return the network, or None if it cannot be run now."""
        if self._network is None and time.monotonic() >= self._next_try:
            self._try()
        return self._network

    def _try(self) -> None:
        try:
            self._network = open_network(
                self._content.read(), self._image, self._classes, self._providers
            )
        except (ModelError, MemoryError, OSError) as error:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE) or _FIRST_PAUSE
            self._next_try = time.monotonic() + self._pause
            self.problem = f"{self._name}: {error}"
            _log.error("model left out for %g s: %s", self._pause, self.problem)
            return
        if self.problem:
            self.problem = ""
            _log.warning("model served again: %s", self._name)
