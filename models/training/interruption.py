"""Ctrl-C in a training: heard at once, obeyed between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import keras


class _Ending(keras.callbacks.Callback):
    """Raises KeyboardInterrupt after the step in hand, once that is `asked` for."""

    asked = False

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.obey()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.obey()

    def obey(self) -> None:
        if self.asked:
            raise KeyboardInterrupt


@contextmanager
def interrupted_between_steps() -> Iterator[keras.callbacks.Callback]:
    """A callback for `fit`: SIGINT ends the training after the step in hand, a second one at once.

    Python raises KeyboardInterrupt wherever the program is, and the backends' C++ does not survive
    that everywhere. In another thread than the main one, which hears no signals, nothing changes.
    """
    ending = _Ending()
    if threading.current_thread() is not threading.main_thread():
        yield ending
        return

    def hear(number: int, frame: FrameType | None) -> None:
        ending.asked = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield ending
        ending.obey()
    finally:
        signal.signal(signal.SIGINT, before)
