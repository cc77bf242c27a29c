"""What the studies compare, as three tables."""

from dataclasses import dataclass, field
from typing import Any

from studies.plan import Budget, Group

# The tries of each constant. Each is about three times the one before.
RATES = {"sgd": (0.003, 0.01, 0.03, 0.1, 0.3), "adam": (3e-4, 1e-3, 3e-3, 0.01, 0.03)}
STRENGTHS = {
    "kernel": (0.05, 0.15, 0.5, 1.5, 5.0),
    "consolidating": (0.3, 1.0, 3.0, 10.0, 30.0),
    "pattern": (0.15, 0.5, 2.0, 8.0, 32.0),
}
# Replaced where the best of these was the largest one.
_MOVED = {("fashion-mnist", "adam"): {"kernel": (5.0, 15.0, 50.0, 150.0, 500.0)}}

# Wrong labels do harm when a network memorises them, hence fewer images and more epochs.
_LENET = {
    "clean": Budget(images=20_000, epochs=6),
    "wrong-labels": Budget(images=6_000, epochs=10),
}

LEARNING = (
    *(
        Group(
            *(dataset, "lenet", optimizer),
            # "few-samples": 1 % of the training set.
            conditions={**_LENET, "few-samples": Budget(one_percent, epochs=20, fixed=True)},
            seeds=5,
            rates=RATES[optimizer],
            strengths={**STRENGTHS, **_MOVED.get((dataset, optimizer), {})},
            tuning=Budget(images=10_000, epochs=3),
        )
        for dataset, one_percent in (("mnist", 600), ("fashion-mnist", 600), ("cifar10", 500))
        for optimizer in RATES
    ),
    *(
        Group(
            *("cifar10", "vgg", optimizer),
            conditions={"clean": Budget(images=12_000, epochs=6)},
            seeds=3,
            rates=RATES[optimizer],
            strengths=STRENGTHS,
            tuning=Budget(images=5_000, epochs=3),
        )
        for optimizer in RATES
    ),
)

# Validation accuracies. The page reports how many epochs a trial needs to reach them.
TARGETS = {
    ("mnist", "lenet"): 0.98,
    ("fashion-mnist", "lenet"): 0.88,
    ("cifar10", "lenet"): 0.55,
    ("cifar10", "vgg"): 0.60,
}

REFERENCE = "synaptic intelligence"

# Smaller rates than above, because smaller steps forget less. Without them, a rule that only makes
# the steps smaller would seem better than a baseline with a smaller rate.
_RATES = {"sgd": (3e-4, 0.001, 0.003, 0.01, 0.03), "adam": (1e-5, 3e-5, 1e-4, 3e-4, 0.001)}
# Larger strengths than above: one that does not disturb a single task also protects it little.
_STRENGTHS = {
    "consolidating": (6.0, 20.0, 60.0, 200.0, 600.0),
    "pattern": (0.5, 2.0, 8.0, 32.0, 128.0),
}
_KERNEL = {"sgd": (0.5, 1.5, 5.0, 15.0, 50.0), "adam": (0.05, 0.15, 0.5, 1.5, 5.0)}
# Zenke et al. use 0.1, but with forty times as many steps for each task, in which importance grows.
# Adam rescales the penalty's gradient. SGD does not, and diverges at the larger of these strengths.
_REFERENCE = {
    "sgd": (300.0, 1_000.0, 3_000.0, 10_000.0, 30_000.0),
    "adam": (3.0, 30.0, 300.0, 3_000.0, 30_000.0),
}

# Tries are as long as reported trials, because forgetting depends on the number of steps.
_TWO_TASKS, _TEN_TASKS = Budget(images=10_000, epochs=3), Budget(images=15_000, epochs=2)
FORGETTING = (
    *(
        Group(
            *("mnist+fashion-mnist", "lenet", optimizer),
            conditions={"two-tasks": _TWO_TASKS},
            seeds=5,
            rates=_RATES[optimizer],
            strengths={
                "kernel": _KERNEL[optimizer],
                **_STRENGTHS,
                REFERENCE: _REFERENCE[optimizer],
            },
            tuning=_TWO_TASKS,
            tuned_on="two-tasks",
        )
        for optimizer in _RATES
    ),
    Group(
        *("permuted-mnist", "784-2000-2000-10", "adam"),
        conditions={"ten-tasks": _TEN_TASKS},
        seeds=5,
        rates=_RATES["adam"],
        # The rule `kernel` acts on convolutions, and this network has none.
        strengths={**_STRENGTHS, REFERENCE: _REFERENCE["adam"]},
        tuning=_TEN_TASKS,
        tuned_on="ten-tasks",
    ),
)
TASKS = {"two-tasks": 2, "ten-tasks": 10}  # number of tasks under each condition

SHIFTED = {"rotate": 10.0, "shift": 3.0, "flip": 0.5}  # 10 degrees, a tenth of 32 pixels


@dataclass(frozen=True)
class Variant:
    """One network of the study, and its accuracy in % according to the published study."""

    network: dict[str, Any]
    published: str
    augment: dict[str, float] = field(default_factory=dict)


VARIANTS = {
    "1-block": Variant({"blocks": 1}, "about 70"),
    "2-blocks": Variant({"blocks": 2}, "about 70"),
    "3-blocks": Variant({}, "about 70"),
    "batch-norm": Variant({"batch_norm": True}, "82.4"),
    "l2": Variant({"l2": 5e-4}, "about 75"),
    "dropout": Variant({"dropout": 0.2}, "about 79"),
    "augmentation": Variant({}, "84", SHIFTED),
    "all": Variant({"batch_norm": True, "l2": 5e-4, "dropout": 0.2}, "86 to 87", SHIFTED),
}
INGREDIENTS = (
    Group(
        *("cifar10", "vgg", "adam"),
        conditions=dict.fromkeys(VARIANTS, Budget(images=45_000, epochs=20)),
        seeds=1,
        rates=(1e-3,),
    ),
)
