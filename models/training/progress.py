"""Progress of a training: a bar on a terminal, otherwise a line for each epoch."""

import sys
import time
from typing import Any

import keras
from tqdm import tqdm


class TrainingProgress(keras.callbacks.Callback):
    """Show epoch, step, loss, accuracy and the remaining time on stderr.

    A terminal gets a progress bar. A file or a pipe (nohup, CI) gets a line after each epoch.
    """

    def __init__(self, epochs: int, steps: int, first_epoch: int = 0) -> None:
        super().__init__()
        self._epochs, self._steps, self._first = epochs, steps, first_epoch
        self._bar: Any = None
        self._started = time.monotonic()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if sys.stderr.isatty():
            total, done = self._epochs * self._steps, self._first * self._steps
            self._bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._bar is not None:
            self._bar.set_description(f"epoch {epoch + 1}/{self._epochs}")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._bar is not None:
            loss, accuracy = (float((logs or {})[name]) for name in ("loss", "accuracy"))
            shown = f"step {batch + 1}/{self._steps}, loss {loss:.4f}, accuracy {accuracy:.4f}"
            self._bar.set_postfix_str(shown, refresh=False)
            self._bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        done = epoch + 1 - self._first
        left = (time.monotonic() - self._started) / done * (self._epochs - epoch - 1)
        line = f"epoch {epoch + 1}/{self._epochs}  " + "  ".join(
            f"{name} {float(logs[name]):.4f}"
            for name in ("loss", "accuracy", "val_loss", "val_accuracy")
        )
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(f"{line}  {tqdm.format_interval(left)} left", file=sys.stderr, flush=True)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._bar is not None:
            self._bar.close()
