"""Train one network by one recipe, and leave a run folder that can be served and published."""

import dataclasses
import math
import time
from datetime import UTC, datetime
from typing import Any

import keras
import numpy as np

from models import architectures
from models.batches import TrainingBatches, one_hot
from models.cards import KERAS_MODEL, Card, ImageInput, Training, checksums, write_card
from models.datasets import Arrays, Images, Labels, dataset, load, scaled, split
from models.export import agreement, export, keras_logits, onnx_logits
from models.interruption import interrupted_between_steps
from models.machine import backend_name, hardware
from models.mirror import mirrored
from models.plasticity import LEARNING_RULES
from models.plasticity.learning import Learning
from models.plots import draw_confusion, draw_curves
from models.progress import TrainingProgress
from models.recipes import Recipe
from models.runs import (
    BEST,
    Run,
    RunError,
    checkpoint_path,
    claimed,
    commit_epoch,
    finish_run,
    machines_of,
    note_machine,
    read_history,
    rounded,
    trained_on,
)
from models.scoring import calibrate, score
from models.size import multiply_adds
from models.storage import compact_keras, round_weights
from models.training_network import training_network
from models.whitening import whiten

History = list[dict[str, float]]
GAIN = 0.001  # of the validation accuracy: less does not restart the recipe's patience


def train(run: Run) -> Card:
    """Train `run` from its start or from its last finished epoch, and fill its folder.

    The weights of `kept_epoch` are the model's. The test set is not looked at: `publish` reads it.
    Raises DataError where the data is not to be had, RunError where another process trains the run.
    """
    arrays = load(run.dataset)
    training, validation = split(arrays.x_train, arrays.y_train, run.recipe.validation)
    with claimed(run.folder):
        fit(run, training, validation)
        return _complete(run, arrays, validation, read_history(run.folder))


def fit(run: Run, training: tuple[Images, Labels], validation: tuple[Images, Labels]) -> None:
    """Train the epochs of `run` that its history lacks; its folder holds the weights kept."""
    recipe, history = run.recipe, read_history(run.folder)
    over = len(history) >= recipe.epochs or patience_is_over(history, recipe.patience)
    if not over or not machines_of(run.folder):
        note_machine(run.folder, backend_name(), hardware())
    if over:
        return
    classes = len(dataset(run.dataset).labels)
    keras.utils.set_random_seed(recipe.seed)
    network = build_network(run)
    whiten(network, training[0])
    model = training_network(network, recipe.precision, recipe.batch_norm_momentum)
    steps = -(-len(training[0]) // recipe.batch_size)
    learning = build_learning(run, steps)
    model.compile(learning.optimizer, learning.loss, metrics=[learning.accuracy])
    learning.optimizer.build(model.trainable_variables)
    if history:
        model.load_weights(checkpoint_path(run.folder, len(history)))
    batches = TrainingBatches(
        *(*training, classes),
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        augmentations=recipe.augment,
        targets=learning.targets,
        loss_weights=learning.loss_weights,
    )
    held_out = learning.targets(one_hot(validation[1], classes), None)
    with interrupted_between_steps() as ending:
        model.fit(
            batches,
            epochs=recipe.epochs,
            initial_epoch=len(history),
            validation_data=(scaled(validation[0]), held_out),
            validation_batch_size=500,
            callbacks=[
                _EpochStarter(batches, recipe.seed),
                _EpochKeeper(run, history, network),
                _Stopper(history, recipe.patience),
                TrainingProgress(recipe.epochs, steps, len(history)),
                ending,
            ],
            shuffle=False,
            verbose=0,
        )


def build_network(run: Run) -> keras.Model:
    """The untrained network of a run."""
    given = image_input(run)
    shape = (given.height, given.width, given.channels)
    return architectures.build(
        *(run.architecture, shape, len(dataset(run.dataset).labels), given.mean, given.std),
        **run.recipe.network,
    )


def image_input(run: Run) -> ImageInput:
    """What the network of a run takes; without normalisation its mean is 0 and its deviation 1."""
    given = dataset(run.dataset).input
    if run.recipe.normalise:
        return given
    return dataclasses.replace(given, mean=(0.0,) * given.channels, std=(1.0,) * given.channels)


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


def kept_epoch(history: History, schedule: str) -> int:
    """The epoch, from 1, whose weights a training keeps of those in `history`.

    The last one under the schedule "cosine", at whose end the steps die out: a validation split of
    a few thousand images cannot tell its last epochs apart, and luck may choose one from the
    middle. Else the one with the best validation accuracy, of equals the last.
    """
    if schedule == "cosine":
        return int(history[-1]["epoch"])
    return int(max(history, key=lambda row: (row["val_accuracy"], row["epoch"]))["epoch"])


def build_learning(run: Run, steps: int) -> Learning:
    """SGD or Adam and cross-entropy as the recipe says, and what the run's rule makes of them.

    `steps` is the number of batches in an epoch.
    """
    recipe = run.recipe
    rate = _learning_rate(recipe, steps)
    decay = recipe.weight_decay or None
    base: keras.optimizers.Optimizer
    if recipe.optimizer == "sgd":
        nesterov = recipe.momentum > 0
        base = keras.optimizers.SGD(rate, recipe.momentum, nesterov, weight_decay=decay)
    else:
        base = keras.optimizers.Adam(rate, weight_decay=decay)
    base.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=recipe.label_smoothing
    )
    return LEARNING_RULES[run.rule](Learning(base, loss), **recipe.constants)


def _learning_rate(recipe: Recipe, steps: int) -> Any:
    if recipe.schedule == "halving":
        return keras.optimizers.schedules.ExponentialDecay(
            recipe.learning_rate, recipe.halve_every * steps, decay_rate=0.5, staircase=True
        )
    total_steps = steps * recipe.epochs
    warmup_steps = round(recipe.warmup * total_steps)
    if recipe.schedule == "constant" and not warmup_steps:
        return recipe.learning_rate
    # A cosine that ends where it began is a constant.
    alpha = 0.0 if recipe.schedule == "cosine" else 1.0
    if not warmup_steps:
        return keras.optimizers.schedules.CosineDecay(recipe.learning_rate, total_steps, alpha)
    return keras.optimizers.schedules.CosineDecay(
        0.0,
        decay_steps=max(total_steps - warmup_steps, 1),
        alpha=alpha,
        warmup_target=recipe.learning_rate,
        warmup_steps=warmup_steps,
    )


class _EpochStarter(keras.callbacks.Callback):
    """Before each epoch, set all that is random in it by the seed and the epoch alone.

    A resumed training then sees the images and drops the activations that an uninterrupted one
    would have: Keras saves no state of a Dropout layer's generator.
    """

    def __init__(self, batches: TrainingBatches, seed: int) -> None:
        super().__init__()
        self._batches, self._seed = batches, seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._batches.start_epoch(epoch)
        for index, layer in enumerate(self.model.layers):
            if hasattr(layer, "seed_generator"):
                (seed,) = np.random.SeedSequence((self._seed, epoch, index)).generate_state(1)
                layer.seed_generator.state.assign([int(seed) >> 1, 0])
        if keras.backend.backend() == "torch":
            # Keras' Dropout draws from PyTorch's own generator there, whatever its layer's says.
            import torch

            (seed,) = np.random.SeedSequence((self._seed, epoch)).generate_state(1)
            torch.manual_seed(int(seed))


class _EpochKeeper(keras.callbacks.Callback):
    """After each epoch, keep its figures, the state to go on from and, of the best, the weights."""

    def __init__(self, run: Run, history: History, network: keras.Model) -> None:
        """`network` is what the best weights are kept as: the one whose clone is trained."""
        super().__init__()
        self._folder, self._schedule = run.folder, run.recipe.schedule
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
        if kept_epoch(self._history, self._schedule) == epoch + 1:
            partial = self._folder / f"partial-{BEST}"
            self._network.set_weights(self.model.get_weights())
            self._network.save_weights(partial)
            partial.replace(self._folder / BEST)
        self.model.save_weights(checkpoint_path(self._folder, epoch + 1), overwrite=True)
        commit_epoch(self._folder, self._history)


class _Stopper(keras.callbacks.Callback):
    """End the training once its patience is over."""

    def __init__(self, history: History, patience: int) -> None:
        """`history` is that which the _EpochKeeper before it fills."""
        super().__init__()
        self._history, self._patience = history, patience

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if patience_is_over(self._history, self._patience):
            self.model.stop_training = True


def _complete(
    run: Run, arrays: Arrays, validation: tuple[Images, Labels], history: History
) -> Card:
    """Turn a trained run into a model's folder: both files, the card and the pictures."""
    network = build_network(run)
    network.load_weights(run.folder / BEST)
    round_weights(network)  # before anything is measured on them
    work = multiply_adds(network)
    if run.recipe.mirror:
        network, work = mirrored(network), 2 * work
    network.save(run.folder / KERAS_MODEL)  # never compiled: no optimizer state
    compact_keras(run.folder / KERAS_MODEL)
    images, labels = validation
    logits = keras_logits(run.folder, images)
    export(run.folder)
    calibration = calibrate(logits, labels, build_learning(run, 1).outputs)
    agreement(logits, onnx_logits(run.folder, images), calibration.temperature).check()
    data, scores = dataset(run.dataset), score(logits, labels)
    card = Card(
        dataset=run.dataset,
        architecture=run.architecture,
        rule=run.rule,
        version=1,
        default=True,
        labels=data.labels,
        input=image_input(run),
        parameters=network.count_params(),
        multiply_adds=work,
        calibration=calibration,
        validation=scores,
        test=None,
        control=None,
        training=_training(run, arrays, history),
        files=checksums(run.folder),
    )
    draw_curves(history, card.name, run.folder / "curves.png")
    title = f"{card.name}: {scores.accuracy:.2%} of {scores.images} validation images"
    draw_confusion(scores, data.labels, title, run.folder / "confusion.png")
    write_card(run.folder, card)
    finish_run(run)
    return card


def _training(run: Run, arrays: Arrays, history: History) -> Training:
    backend, machine = trained_on(run.folder)
    return Training(
        command=run.command,
        recipe=run.recipe.as_dict(),
        seed=run.recipe.seed,
        epochs=len(history),
        best_epoch=kept_epoch(history, run.recipe.schedule),
        seconds=round(sum(row["seconds"] for row in history), 1),
        hardware=machine,
        backend=backend,
        data_sha256=arrays.sha256(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
