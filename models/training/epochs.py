"""What happens at each epoch of a training: its chance is set, its state kept, its end decided."""

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
GAIN = 0.001  # of the validation accuracy: less does not restart the recipe's patience


def patience_is_over(history: History, patience: int) -> bool:
    """Whether the last `patience` epochs, if not 0, all stayed below the best before plus GAIN."""
    best, waited = float("-inf"), 0
    for row in history:
        # Rounded, since 0.501 - 0.5 is a little less than 0.001.
        if round(row["val_accuracy"] - best, 6) >= GAIN:
            best, waited = row["val_accuracy"], 0
        else:
            waited += 1
    return 0 < patience <= waited


def kept_epoch(history: History, recipe: Recipe) -> int:
    """The epoch, from 1, whose weights a training keeps of those in `history`.

    The last one where the last ones are averaged, and under the schedule "cosine", at whose end
    the steps die out: a validation split of a few thousand images cannot tell its last epochs
    apart, and luck may choose one from the middle. Else the one with the best validation accuracy,
    of equals the last.
    """
    if recipe.average or recipe.schedule == "cosine":
        return int(history[-1]["epoch"])
    return int(max(history, key=lambda row: (row["val_accuracy"], row["epoch"]))["epoch"])


def keep_best(folder: Path, network: keras.Model, trained: keras.Model) -> None:
    """Write the weights of `trained`, as those of `network`, to where a run's best ones lie."""
    partial = folder / f"partial-{BEST}"
    network.set_weights(trained.get_weights())
    network.save_weights(partial)
    partial.replace(folder / BEST)


class EpochStarter(keras.callbacks.Callback):
    """Before each epoch, set all that is random in it by the seed and the epoch alone."""

    def __init__(self, batches: TrainingBatches, seed: int) -> None:
        super().__init__()
        self._batches, self._seed = batches, seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        start_epoch(self.model, self._batches, self._seed, epoch)


def start_epoch(model: keras.Model, batches: TrainingBatches, seed: int, epoch: int) -> None:
    """Set the images of an epoch, from 0, and what is dropped in it, by the seed and it alone.

    A resumed training then sees the images and drops the activations that an uninterrupted one
    would have: Keras saves no state of a Dropout layer's generator.
    """
    batches.start_epoch(epoch)
    for index, layer in enumerate(model.layers):
        if hasattr(layer, "seed_generator"):
            (drawn,) = np.random.SeedSequence((seed, epoch, index)).generate_state(1)
            layer.seed_generator.state.assign([int(drawn) >> 1, 0])
    if keras.backend.backend() == "torch":
        # Keras' Dropout draws from PyTorch's own generator there, whatever its layer's says.
        import torch

        (drawn,) = np.random.SeedSequence((seed, epoch)).generate_state(1)
        torch.manual_seed(int(drawn))


class EpochKeeper(keras.callbacks.Callback):
    """After each epoch, keep its figures, the state to go on from and, of the best, the weights."""

    def __init__(self, run: Run, history: History, network: keras.Model) -> None:
        """`network` is what the best weights are kept as: the one whose clone is trained."""
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
        # As the file has them: a training that is gone on with decides by the same numbers.
        row = {name: rounded(value) for name, value in row.items()}
        if not all(map(math.isfinite, row.values())):
            raise RunError(
                f"epoch {epoch + 1} of {self._folder} ended with a loss that is no number: the "
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
    """End the training once its patience is over."""

    def __init__(self, history: History, patience: int) -> None:
        """`history` is that which the EpochKeeper before it fills."""
        super().__init__()
        self._history, self._patience = history, patience

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if patience_is_over(self._history, self._patience):
            self.model.stop_training = True
