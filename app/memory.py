"""Memory that the C library keeps after it was freed."""

import contextlib
import ctypes


def return_freed_memory() -> None:
    """Give freed memory back to the system, also what lies between pieces that are in use."""
    with contextlib.suppress(AttributeError):  # not every C library has it
        ctypes.CDLL(None).malloc_trim(0)
