"""Measure how much of a task remains after the same network has learned other tasks.

`two-tasks`: LeNet learns MNIST, then Fashion-MNIST, with one output layer for both. `ten-tasks`:
784-2000-2000-10 learns MNIST ten times, each time with the pixels in another order (Zenke et al.
2017). Both networks have no batch normalisation, because its moving averages would follow the last
task. The optimizer keeps its moments from task to task. Only Synaptic Intelligence is told where a
task ends, because it needs to know.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from models.architectures import build
from models.data.batches import TrainingBatches
from models.data.datasets import Images, Labels, dataset, split
from models.files import write_whole
from models.plasticity.learning import Learning
from models.plasticity.metaplastic import metaplastic
from models.plasticity.synaptic_intelligence import SynapticIntelligence
from models.training.fast_clone import fast_clone, keep_freed_memory
from models.training.hardware import backend_name, hardware
from studies.groups import REFERENCE, STRENGTHS, TASKS
from studies.plan import BASELINE
from studies.results import Trial, TrialResult
from studies.training import VALIDATION, accuracy, arrays_of, first, prepared

BATCH = {"lenet": 128, "784-2000-2000-10": 256}


def learn_in_turn(trial: Trial, folder: Path) -> TrialResult:
    """Learn the tasks of `trial` one after the other, from the first unfinished one in `folder`.

    After each task, accuracy is measured on the validation images of every task so far. The test
    sets are read after the last task.
    """
    learning, model = _build(trial)
    curve = _read(folder)
    learned = max((row["learned"] for row in curve), default=0)
    if learned:
        model.load_weights(_state(folder, learned))
    for number in range(learned + 1, TASKS[trial.condition] + 1):
        started = time.monotonic()
        _learn(trial, number, learning, model)
        seconds = time.monotonic() - started
        for task in range(1, number + 1):
            found = accuracy(model, *_images(trial, task, "validation"))
            spent = seconds if task == number else 0.0
            curve.append({"learned": number, "task": task, "val_accuracy": found, "seconds": spent})
        model.save_weights(_state(folder, number), overwrite=True)
        _write(folder, curve)
        _state(folder, number - 1).unlink(missing_ok=True)
        kept = np.mean([row["val_accuracy"] for row in curve if row["learned"] == number])
        print(f"task {number}: validation {kept:.4f} on average", file=sys.stderr, flush=True)
    return TrialResult(
        _figures(trial, model, curve),
        [{name: row[name] for name in ("learned", "task", "val_accuracy")} for row in curve],
    )


def _figures(trial: Trial, model: keras.Model, curve: list[dict[str, Any]]) -> dict[str, Any]:
    last = TASKS[trial.condition]
    at_once = [row["val_accuracy"] for row in curve if row["task"] == row["learned"]]
    kept = [row["val_accuracy"] for row in curve if row["learned"] == last]
    figures: dict[str, Any] = {
        "learned": float(np.mean(at_once)),  # each task directly after it was learned
        "validation": float(np.mean(kept)),  # each task after the last one
        "forgotten": float(np.mean(at_once) - np.mean(kept)),
    }
    if trial.purpose == "report":
        tests = [accuracy(model, *_images(trial, task, "test")) for task in range(1, last + 1)]
        figures |= {"test_first": tests[0], "test_last": tests[-1], "test": float(np.mean(tests))}
    figures["seconds"] = sum(row["seconds"] for row in curve)
    return {**figures, "backend": backend_name(), "hardware": hardware()}


def _learn(trial: Trial, number: int, learning: Learning, model: keras.Model) -> None:
    """Train for the epochs of task `number`, counted from 1."""
    batches = TrainingBatches(
        *(*_images(trial, number, "training"), 10),
        batch_size=BATCH[trial.architecture],
        seed=100 * trial.seed + number,
        augmentations={},
        loss_weights=learning.loss_weights,
    )
    for epoch in range(trial.epochs):
        batches.start_epoch(epoch)
        model.fit(batches, shuffle=False, verbose=0)
    if isinstance(learning.optimizer, SynapticIntelligence):
        learning.optimizer.end_task()


def _build(trial: Trial) -> tuple[Learning, keras.Model]:
    keras.utils.set_random_seed(trial.seed)
    if trial.architecture == "lenet":
        given = dataset("mnist").input
        network = build("lenet", (28, 28, 1), 10, given.mean, given.std, batch_norm=False)
        model = fast_clone(network, "float32")
    else:
        keep_freed_memory()
        hidden = [layers.Dense(2000, activation="relu", dtype="mixed_bfloat16") for _ in range(2)]
        model = keras.Sequential(
            [keras.Input((28, 28, 1)), layers.Flatten(), *hidden, layers.Dense(10)]
        )
    learning = _RULES[trial.rule](_base(trial), trial.strength)
    model.compile(learning.optimizer, learning.loss)
    learning.optimizer.build(model.trainable_variables)
    return learning, model


def _base(trial: Trial) -> keras.optimizers.Optimizer:
    if trial.optimizer == "sgd":
        return keras.optimizers.SGD(trial.learning_rate, momentum=0.9, nesterov=True)
    return keras.optimizers.Adam(trial.learning_rate)


def _around(rule: str) -> Callable[[keras.optimizers.Optimizer, float], Learning]:
    return lambda base, strength: metaplastic(Learning(base), rule=rule, strength=strength)


_RULES: Mapping[str, Callable[[keras.optimizers.Optimizer, float], Learning]] = {
    BASELINE: lambda base, strength: Learning(base),
    **{rule: _around(rule) for rule in STRENGTHS},
    REFERENCE: lambda base, strength: Learning(SynapticIntelligence(base, strength)),
}


def _images(trial: Trial, number: int, part: str) -> tuple[Images, Labels]:
    """Return the images and labels of task `number`, counted from 1.

    `part` is "training", "validation" or "test".
    """
    names = trial.dataset.split("+")
    arrays = arrays_of(names[number - 1] if len(names) > 1 else "mnist")
    if part == "test":
        images, labels = arrays.x_test, arrays.y_test
    else:
        training, validation = split(arrays.x_train, arrays.y_train, VALIDATION)
        images, labels = (
            prepared(trial, *training, 10) if part == "training" else first(*validation)
        )
    if trial.dataset == "permuted-mnist":
        order = np.random.default_rng((trial.seed, 2, number)).permutation(28 * 28)
        images = images.reshape(len(images), -1)[:, order].reshape(images.shape)
    return images, labels


def _state(folder: Path, learned: int) -> Path:
    """Return the path of the state of network and optimizer after `learned` tasks."""
    return folder / f"task-{learned:02d}.weights.h5"


def _read(folder: Path) -> list[dict[str, Any]]:
    path = folder / "curve.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def _write(folder: Path, curve: list[dict[str, Any]]) -> None:
    write_whole(folder / "curve.json", json.dumps(curve))
