"""What each ingredient of the VGG is worth on CIFAR-10: more blocks, then one regulariser at a time.

The networks are those of the study that this project absorbs: 1, 2 or 3 blocks of two convolutions
and a pool, 32, 64 and 128 maps wide, then two dense layers.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.studies.plan import Budget, Group
from models.studies.results import Outcome, Trial
from models.studies.training import recipe, train_trial

NAME = "vgg"

_PLAIN: dict[str, Any] = {
    **{"width": 32, "dense": 128, "whiten": False, "early_pool": False, "logit_scale": 1.0},
    **{"blocks": 3, "batch_norm": False},
}
_SHIFTED = {"rotate": 10.0, "shift": 3.0, "flip": 0.5}  # 10 degrees, a tenth of 32 pixels


@dataclass(frozen=True)
class Variant:
    """One network of the study, and the accuracy in % that the published study says it has."""

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
    "augmentation": Variant({}, "84", _SHIFTED),
    "all": Variant({"batch_norm": True, "l2": 5e-4, "dropout": 0.2}, "86 to 87", _SHIFTED),
}
PUBLISHED_LAST = "90"  # all of it, after 250 epochs at 0.0003 and 25 at 0.0001

GROUPS = (
    Group(
        *("cifar10", "vgg", "adam"),
        conditions=dict.fromkeys(VARIANTS, Budget(images=45_000, epochs=12)),
        seeds=1,
        rates=(1e-3,),
    ),
)


def carry_out(trial: Trial, folder: Path) -> Outcome:
    """Train one of the trials of GROUPS in `folder`, from where it was left."""
    variant = VARIANTS[trial.condition]
    settings = {
        "network": {**_PLAIN, **variant.network},
        "augment": variant.augment,
        "weight_decay": 0.0,
    }
    return train_trial(trial, recipe(trial, **settings), folder)
