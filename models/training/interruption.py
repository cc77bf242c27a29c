"""Ctrl-C and SIGTERM during a training: they take effect between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import keras

from models.signals import ENDING


class _Interruption(keras.callbacks.Callback):
    """Act on a signal once the current step is over."""

    def __init__(self) -> None:
        super().__init__()
        self.received: int | None = None
        # What each signal did before: it raises KeyboardInterrupt. Others end the process as ever.
        known = {int(number): signal.getsignal(number) for number in ENDING}
        self.before = {number: act for number, act in known.items() if callable(act)}

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.act()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.act()

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self.restore()

    def restore(self) -> None:
        for number, act in self.before.items():
            signal.signal(number, act)

    def act(self) -> None:
        if self.received is not None:
            self.before[self.received](self.received, None)


@contextmanager
def interrupted_between_steps() -> Iterator[keras.callbacks.Callback]:
    """Yield a callback for `fit` that ends the training after the current step on Ctrl-C.

    So do SIGTERM and SIGHUP where they act as Ctrl-C does. A second signal interrupts at once. By
    default, Python raises KeyboardInterrupt at any place, and the C++ code of the backends can
    crash. Outside the main thread, which alone receives signals, nothing changes.
    """
    interruption = _Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    for number in interruption.before:
        signal.signal(number, interruption.handle)
    try:
        yield interruption
        interruption.act()
    except Exception:
        interruption.act()  # the processes that prepare batches may have got the same signal
        raise
    finally:
        interruption.restore()
