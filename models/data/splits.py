"""Which images of each class are held out, with nearly equal ones on one side."""

import numpy as np
import numpy.typing as npt


def hold_out(
    labels: npt.NDArray[np.int64],
    share: float,
    *,
    seed: int = 0,
    groups: npt.NDArray[np.int64] | None = None,
    least: int = 0,
) -> npt.NDArray[np.bool_]:
    """Return flags (N,): the `share` of each class, at least `least`, that is held out.

    Of each class in turn, images are taken in random order until there are enough. With `groups`
    (N,), equal for images that belong together, all of a group are held out or none; a group that
    would be too many is passed over, and so a class may have fewer held out than its share.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    held_out = np.zeros(len(labels), bool)
    together = _members(groups) if groups is not None else {}
    for label in np.unique(labels):
        members = order[labels[order] == label]
        wanted = max(least, round(share * len(members)))
        missing = wanted - int(held_out[members].sum())  # some may have come with another class
        for place in members:
            if missing <= 0:
                break
            group = together.get(int(groups[place])) if groups is not None else None
            added = np.array([place]) if group is None else group
            own = int((labels[added] == label).sum())
            if not held_out[place] and own <= missing:
                held_out[added] = True
                missing -= own
    return held_out


def _members(groups: npt.NDArray[np.int64]) -> dict[int, npt.NDArray[np.int64]]:
    """Group -> the places of its images, of groups of two or more."""
    order = np.argsort(groups, kind="stable")
    numbers, starts, counts = np.unique(groups[order], return_index=True, return_counts=True)
    return {
        int(number): order[start : start + count]
        for number, start, count in zip(numbers, starts, counts, strict=True)
        if count > 1
    }
