"""Rows of studies that nobody has trained: a made-up network that learns at a made-up pace."""

import functools
import zlib

import numpy as np

from studies.groups import TASKS
from studies.plan import BASELINE, plan
from studies.results import Tables, read_rows, write_rows
from studies.work import pending_trials

# What each rule adds to the accuracy.
GAINS = {BASELINE: 0.0, "consolidating": 0.02, "pattern": -0.02, "kernel": 0.0}
GAINS["synaptic intelligence"] = 0.3


def write_made_results(tables, groups):
    """A row, and its curve, for every trial of `groups`."""
    while pending := pending_trials(functools.partial(plan, groups), tables):
        made = [_made(trial) for trial in pending]
        rows, curves = read_rows(tables.runs), read_rows(tables.curves)
        write_rows(tables.runs, [*rows, *(row for row, _ in made)])
        write_rows(tables.curves, [*curves, *(epoch for _, curve in made for epoch in curve)])


def _made(trial):
    random = np.random.default_rng(zlib.crc32(trial.name.encode()))
    # The middle of the tries is the best.
    off = 0.01 * abs(np.log(trial.learning_rate / (0.03 if trial.optimizer == "sgd" else 1e-3)))
    last = (
        0.6 + GAINS.get(trial.rule, 0.05) - off + 0.001 * trial.seed % 7 + random.normal(0, 0.002)
    )
    accuracies = last * (1 - 0.5 ** np.arange(1, trial.epochs + 1))
    figures = {"train": last, "validation": last, "test": last, "validation_1": accuracies[0]}
    if trial.epochs >= 3:
        figures["validation_3"] = accuracies[2]
    curve = [
        {"epoch": e, "loss": 1 / e, "accuracy": a, "val_loss": 1 / e, "val_accuracy": a}
        for e, a in enumerate(accuracies, start=1)
    ]
    figures |= {"before": 0.5, "before_home": 0.99, "test_home": 0.98, "lost": 15, "gained": 5}
    if trial.condition in TASKS:
        figures |= {
            "learned": 0.9,
            "forgotten": 0.9 - last,
            "test_first": last - 0.1,
            "test_last": last + 0.1,
        }
        curve = [
            {"learned": learned, "task": task, "val_accuracy": last}
            for learned in range(1, TASKS[trial.condition] + 1)
            for task in range(1, learned + 1)
        ]
    if trial.purpose == "tuning":
        figures = {"validation": figures["validation"]}
    fields = {name: getattr(trial, name) for name in trial.__dataclass_fields__}
    made = {"seconds": 36, "backend": "made up", "hardware": "made up"}
    row = {name: f"{v:.6g}" if isinstance(v, float) else str(v) for name, v in fields.items()}
    row |= {name: f"{value:.6g}" for name, value in figures.items()}
    row |= {name: str(value) for name, value in made.items()}
    return row, [{"run": trial.name, **{k: f"{v:.6g}" for k, v in e.items()}} for e in curve]


def write_all(results):
    """All studies, whole."""
    from studies.commands import STUDIES

    for tables in STUDIES.values():
        for name, groups in tables.items():
            write_made_results(Tables(results, name), groups)
