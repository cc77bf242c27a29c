"""The constants of a learning rule, checked. NumPy's scalars are numbers; truth values are not."""

import math
from numbers import Integral, Real
from typing import Any


def number(
    name: str, value: Any, *, at_least: float | None = None, above: float | None = None
) -> float:
    """Return `value` as a float.

    Raises ValueError, with `name`, where it is no finite number, or none of `at_least` or more, or
    none above `above`: one of the two bounds is given.
    """
    fits = not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)
    if above is not None:
        fits, expected = fits and value > above, f"above {above}"
    else:
        fits, expected = fits and value >= at_least, f"of {at_least} or more"
    if not fits:
        raise ValueError(f"{name}: expected a number {expected}, found {value!r}")
    return float(value)


def whole_number(name: str, value: Any, *, at_least: int) -> int:
    """Return `value` as an int. Raises ValueError, with `name`, where it is none of that size."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < at_least:
        raise ValueError(f"{name}: expected a whole number from {at_least}, found {value!r}")
    return int(value)
