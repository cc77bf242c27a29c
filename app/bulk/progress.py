"""How far a bulk job is."""

import sys
import time
from typing import IO

_BAR = 24  # width of the progress bar in characters
_LEAST_PAUSE = 0.1  # seconds between two drawings


class Progress:
    """A progress bar on a terminal; other streams get nothing."""

    def __init__(self, total: int, before: int = 0, stream: IO[str] | None = None) -> None:
        """Begin at `before` of `total` pictures."""
        self._total, self._before, self._done = total, before, before
        self._chunks = 0
        self._stream = stream or sys.stderr
        self._started = time.monotonic()
        self._drawn = 0.0
        self._shown = False

    def add(self, pictures: int) -> None:
        """Count a finished chunk."""
        self._done += pictures
        self._chunks += 1

    def show(self, workers: str) -> None:
        """Draw the bar, if it was not drawn just now."""
        now = time.monotonic()
        last = self._done >= self._total
        if not self._stream.isatty() or (now - self._drawn < _LEAST_PAUSE and not last):
            return
        self._drawn = now
        rate = (self._done - self._before) / max(1e-6, now - self._started)
        left = round((self._total - self._done) / rate) if rate else 0
        bar = "#" * (_BAR * self._done // max(1, self._total))
        line = (
            f"[{bar:<{_BAR}}] {self._done}/{self._total}  {rate:.0f}/s  "
            f"{left // 60}:{left % 60:02} left  {self._chunks} chunks, {workers}"
        )
        print(f"\r\x1b[K{line}", end="", file=self._stream, flush=True)
        self._shown = True

    def clear(self) -> None:
        """Remove the bar."""
        if self._shown:
            print("\r\x1b[K", end="", file=self._stream, flush=True)
            self._shown = False
