"""Ctrl-C during a training: it takes effect between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import keras


class _Interruption(keras.callbacks.Callback):
    """Raise KeyboardInterrupt after the current step once `requested` is true."""

    requested = False

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.raise_if_requested()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.raise_if_requested()

    def raise_if_requested(self) -> None:
        if self.requested:
            raise KeyboardInterrupt


@contextmanager
def interrupted_between_steps() -> Iterator[keras.callbacks.Callback]:
    """Yield a callback for `fit` that ends the training after the current step on SIGINT.

    A second SIGINT interrupts at once. By default, Python raises KeyboardInterrupt at any place,
    and the C++ code of the backends can crash. Outside the main thread, which alone receives
    signals, nothing changes.
    """
    interruption = _Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return

    def handle(number: int, frame: FrameType | None) -> None:
        interruption.requested = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield interruption
        interruption.raise_if_requested()
    finally:
        signal.signal(signal.SIGINT, before)
