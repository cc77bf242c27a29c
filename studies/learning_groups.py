"""What the study of learning from votes compares."""

from collections.abc import Iterable

from models.learning.learner import REWARD_SETTINGS, Settings
from studies.plan import BASELINE, Budget, Group

TUNING = "tuning"  # the condition of the tries, with shifts of its own
THEN = ", then "  # between the two shifts of a condition
FEW = "500 votes, "  # before the shift, under a condition with fewer votes

# 8 passes over 2,000 votes, and as many steps over fewer.
_MANY, _FEW = Budget(2000, epochs=8, fixed=True), Budget(500, epochs=32, fixed=True)
_RATE, _HOME = Settings().rate, Settings().home  # those of the service's own learner


def _strengths(home: float) -> dict[str, tuple[float, ...]]:
    """Return the tries of each rule: its strength, or else the weight of the home term."""
    return {
        "first layers": (0.0,),
        "last layer": (0.0,),
        "consolidating": (30.0, 100.0),
        "synaptic intelligence": (1e3, 1e5),
        "l2": (0.03, 0.3),
        "labels": (0.0,),
        "home": (home,),
        "home, consolidating": (30.0,),
        "home, labels": (home,),
    }


RULES = (BASELINE, *_strengths(_HOME))


def _group(
    dataset: str,
    architecture: str,
    conditions: Iterable[str],
    rules: Iterable[str] = RULES,
    rate: float = _RATE,
    home: float = _HOME,
) -> Group:
    return Group(
        *(dataset, architecture, "adam"),
        conditions={name: _FEW if name.startswith(FEW) else _MANY for name in conditions},
        seeds=5,
        rates=(rate,),
        strengths={rule: tries for rule, tries in _strengths(home).items() if rule in rules},
        tuning=_MANY,
        tuned_on=TUNING,
    )


_LEARNERS = ("consolidating", "home", "home, labels")
IN_TURN = f"rotated 45{THEN}thick"
VOTES = (
    _group("mnist", "lenet", ["rotated 45"]),
    _group("mnist", "lenet", [f"{FEW}rotated 45"], _LEARNERS),
    _group("mnist", "lenet", ["thick"]),
    _group("mnist", "lenet", [IN_TURN], (*_LEARNERS, "synaptic intelligence", "l2")),
    _group("mnist", "lenet", [f"{FEW}thick"], _LEARNERS),
    _group("mnist", "lenet", ["rotated 30", "rotated 60", "thin", "sheared", "noisy"], _LEARNERS),
    _group("mnist", "conv", ["rotated 45", "thick"], _LEARNERS, **REWARD_SETTINGS),
    _group("fashion-mnist", "lenet", ["rotated 45", "noisy"], _LEARNERS),
    _group("cifar10", "vgg", ["blurred", "noisy", "flat"], _LEARNERS),
)
