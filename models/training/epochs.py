"""The work of each epoch: seed its randomness, save its state, decide whether to stop."""

import math
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.data.batches import TrainingBatches
from models.training.averaging import keep_tail
from models.training.recipes import Recipe
from models.training.runs import BEST, Run, RunError, checkpoint_path, commit_epoch, rounded

History = list[dict[str, float]]
GAIN = 0.001  # of the validation accuracy; a smaller gain does not count for early stopping


def patience_is_over(history: History, patience: int) -> bool:
    """Return whether the last `patience` epochs brought no gain over the best one before.

    With a `patience` of 0, return False.
    """
    best, waited = float("-inf"), 0
    for row in history:
        # Rounded, because 0.501 - 0.5 is slightly less than 0.001 in floating point.
        if round(row["val_accuracy"] - best, 6) >= GAIN:
            best, waited = row["val_accuracy"], 0
        else:
            waited += 1
    return 0 < patience <= waited


def kept_epoch(history: History, recipe: Recipe) -> int:
    """Return the epoch in `history`, from 1, whose weights the training keeps.

    With weight averaging and with the schedule "cosine", this is the last epoch. At the end of a
    cosine the steps become very small, and a validation split of a few thousand images cannot
    distinguish the last epochs: chance could select an earlier one. Otherwise it is the epoch with
    the best validation accuracy, the last one of equals.
    """
    if recipe.average or recipe.schedule == "cosine":
        return int(history[-1]["epoch"])
    return int(max(history, key=lambda row: (row["val_accuracy"], row["epoch"]))["epoch"])


def keep_best(folder: Path, network: keras.Model, trained: keras.Model) -> None:
    """Copy the weights of `trained` to `network` and save them as the best ones of the run."""
    partial = folder / f"partial-{BEST}"
    network.set_weights(trained.get_weights())
    network.save_weights(partial)
    partial.replace(folder / BEST)


class EpochStarter(keras.callbacks.Callback):
    """Before each epoch, seed everything random in it from the seed and the epoch alone."""

    def __init__(self, batches: TrainingBatches, seed: int) -> None:
        super().__init__()
        self._batches, self._seed = batches, seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        start_epoch(self.model, self._batches, self._seed, epoch)


def start_epoch(model: keras.Model, batches: TrainingBatches, seed: int, epoch: int) -> None:
    """Seed the order of the images and the dropout of an epoch (from 0).

    Both depend on the seed and the epoch alone, so that a resumed training repeats what an
    uninterrupted one would do. Keras does not save the state of a Dropout layer's generator.
    """
    batches.start_epoch(epoch)
    for index, layer in enumerate(model.layers):
        if hasattr(layer, "seed_generator"):
            (drawn,) = np.random.SeedSequence((seed, epoch, index)).generate_state(1)
            layer.seed_generator.state.assign([int(drawn) >> 1, 0])
    if keras.backend.backend() == "torch":
        # On this backend, Keras' Dropout ignores its own generator and uses PyTorch's.
        import torch

        (drawn,) = np.random.SeedSequence((seed, epoch)).generate_state(1)
        torch.manual_seed(int(drawn))


class EpochKeeper(keras.callbacks.Callback):
    """After each epoch, save its figures, a checkpoint and, if it is the best, the weights."""

    def __init__(self, run: Run, history: History, network: keras.Model) -> None:
        """Keep `network`, whose clone is trained and which the best weights are saved from."""
        super().__init__()
        self._folder, self._recipe = run.folder, run.recipe
        self._history, self._network = history, network
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        row = {"epoch": float(epoch + 1)}
        row |= {name: float(value) for name, value in (logs or {}).items()}
        row["seconds"] = time.monotonic() - self._started
        # As in the file, so that a resumed training decides by the same numbers.
        row = {name: rounded(value) for name, value in row.items()}
        if not all(map(math.isfinite, row.values())):
            raise RunError(
                f"epoch {epoch + 1} of {self._folder} ended with a loss that is not finite: the "
                "training has diverged. Try a lower learning_rate or a longer warmup"
            )
        self._history.append(row)
        if kept_epoch(self._history, self._recipe) == epoch + 1:
            keep_best(self._folder, self._network, self.model)
        if self._recipe.average:
            weights = self.model.get_weights()
            keep_tail(self._folder, epoch + 1, weights, self._recipe.average)
        self.model.save_weights(checkpoint_path(self._folder, epoch + 1), overwrite=True)
        commit_epoch(self._folder, self._history)


class Stopper(keras.callbacks.Callback):
    """Stop the training early, according to the recipe's patience."""

    def __init__(self, history: History, patience: int) -> None:
        """Take the `history` that EpochKeeper, an earlier callback, fills."""
        super().__init__()
        self._history, self._patience = history, patience

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if patience_is_over(self._history, self._patience):
            self.model.stop_training = True
