"""What the study of learning from votes compares."""

from studies.plan import Budget, Group

# Eight passes over 2,000 votes, and as many steps with fewer votes.
FULL, FEW = Budget(2000, epochs=16, fixed=True), Budget(500, epochs=64, fixed=True)
RATES = (3e-4, 1e-3, 3e-3)
STRENGTHS = {
    "first layers": (0.0,),
    "last layer": (0.0,),
    "consolidating": (3.0, 10.0, 30.0, 100.0),
    "synaptic intelligence": (1e3, 1e4, 1e5, 1e6),
    "l2": (0.01, 0.1, 1.0, 10.0),
    "labels": (0.0,),
    "home": (1.0, 3.0, 10.0),
    "home, consolidating": (3.0, 10.0, 30.0, 100.0),
    "home, labels": (3.0,),
}
