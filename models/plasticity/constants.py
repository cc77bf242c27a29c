"""Check the constants of a learning rule. NumPy scalars are numbers here; bool values are not."""

import math
from numbers import Integral, Real
from typing import Any

LARGEST = 1e6  # larger constants could overflow a float32 in products with weights
SMALLEST = 1e-30  # smaller constants could be 0 as a float32


def number(name: str, value: Any, *, at_least: float = 0.0, above: float | None = None) -> float:
    """Return `value` as a float.

    Raises ValueError, with `name`, unless the value is a number from `at_least` to LARGEST. With
    `above`, which replaces `at_least`, it must be larger than `above` by SMALLEST or more.
    """
    as_float = _as_float(value)
    if as_float > LARGEST:
        raise ValueError(f"{name}: expected a number up to {LARGEST:.0f}, found {value!r}")
    if above is None:
        fits, expected = as_float >= at_least, f"of {at_least} or more"
    else:
        fits, expected = as_float - above >= SMALLEST, f"above {above}"
        if as_float > above:
            expected = f"of {SMALLEST} or more above {above}"
    if not fits:
        raise ValueError(f"{name}: expected a number {expected}, found {value!r}")
    return as_float


def _as_float(value: Any) -> float:
    """Return a number as a float: infinity if it is too large, NaN if it is not a number."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    try:
        return float(value) if is_number else math.nan
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def whole_number(name: str, value: Any, *, at_least: int) -> int:
    """Return `value` as an int. Raises ValueError, with `name`, for other values."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < at_least:
        raise ValueError(f"{name}: expected a whole number from {at_least}, found {value!r}")
    return int(value)
