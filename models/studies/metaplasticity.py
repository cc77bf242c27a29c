"""What metaplasticity does to learning: three rules against plain backprop, in paired trials."""

from pathlib import Path
from typing import Any

from models.studies.plan import Budget, Group
from models.studies.results import Outcome, Trial
from models.studies.training import recipe, train_trial

NAME = "metaplasticity"

# The tries of each constant: a factor of about three from one to the next.
RATES = {"sgd": (0.01, 0.03, 0.1), "adam": (3e-4, 1e-3, 3e-3)}
STRENGTHS = {
    "kernel": (0.15, 0.5, 1.5),
    "consolidating": (1.0, 3.0, 10.0),
    "pattern": (0.5, 2.0, 8.0),
}

# 600 and 500 images are 1 % of the training sets. Labels do harm where they can be learned by
# heart: fewer images, more often.
_LENET = {
    "clean": Budget(images=30_000, epochs=6),
    "wrong-labels": Budget(images=10_000, epochs=10),
    "few-samples": Budget(images=600, epochs=20),
}

GROUPS = (
    *(
        Group(
            *(dataset, "lenet", optimizer),
            conditions={**_LENET, "few-samples": Budget(one_percent, 20)},
            seeds=5,
            rates=RATES[optimizer],
            strengths=STRENGTHS,
            tuning=Budget(images=10_000, epochs=3),
        )
        for dataset, one_percent in (("mnist", 600), ("fashion-mnist", 600), ("cifar10", 500))
        for optimizer in RATES
    ),
    *(
        Group(
            *("cifar10", "vgg", optimizer),
            conditions={"clean": Budget(images=15_000, epochs=6)},
            seeds=3,
            rates=RATES[optimizer],
            strengths=STRENGTHS,
            tuning=Budget(images=5_000, epochs=3),
        )
        for optimizer in RATES
    ),
)

# Accuracy on the validation split: how many epochs a trial needs to reach it is reported.
TARGETS = {
    ("mnist", "lenet"): 0.98,
    ("fashion-mnist", "lenet"): 0.85,
    ("cifar10", "lenet"): 0.55,
    ("cifar10", "vgg"): 0.60,
}

# The classic VGG of three blocks (see vgg.py), with batch normalisation.
_NETWORKS: dict[str, dict[str, Any]] = {
    "lenet": {},
    "vgg": {
        **{"width": 32, "dense": 128, "whiten": False, "early_pool": False, "logit_scale": 1.0}
    },
}


def carry_out(trial: Trial, folder: Path) -> Outcome:
    """Train one of the trials of GROUPS in `folder`, from where it was left."""
    return train_trial(trial, recipe(trial, network=_NETWORKS[trial.architecture]), folder)
