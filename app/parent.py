"""The end of the parent process, of which Linux alone gives word."""

import ctypes
import os

_PR_SET_PDEATHSIG = 1  # prctl(2)


def signal_when_parent_ends(number: int) -> None:
    """Have the kernel send this process the signal `number` when its parent ends, however it ends.

    A parent that has ended before sends none. Raises OSError where the system cannot do it.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
