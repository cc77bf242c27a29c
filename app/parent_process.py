"""Notice of the end of the parent process, which only Linux gives."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def signal_when_parent_ends(number: int) -> None:
    """Have the kernel send this process the signal `number` when its parent ends, for any reason.

    No signal is sent if the parent has ended already. Raises OSError if the system refuses.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def end_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent, the process `parent`, ends.

    A stopped process ends too. If the parent has ended already, this process ends now. Nothing is
    done on systems other than Linux. Raises OSError as `signal_when_parent_ends` does.
    """
    if sys.platform != "linux":
        return
    signal_when_parent_ends(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
