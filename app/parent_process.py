"""The end of the parent process, of which Linux alone gives word."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def signal_when_parent_ends(number: int) -> None:
    """Have the kernel send this process the signal `number` when its parent ends, however it ends.

    A parent that has ended before sends none. Raises OSError where the system cannot do it.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def end_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent, the process `parent`, ends.

    A process that is stopped ends too. Where the parent has ended before, this process ends now.
    On other systems than Linux nothing is done. Raises OSError as `signal_when_parent_ends` does.
    """
    if sys.platform != "linux":
        return
    signal_when_parent_ends(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
