"""SIGTERM and SIGHUP end a command as Ctrl-C does, so that nothing unfinished stays behind."""

import os
import signal
from types import FrameType

INTERRUPTED = 130  # the exit status of shells for Ctrl-C
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last one: a terminal was closed

_received: list[int] = []


def end_as_by_ctrl_c() -> None:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt in this process, as SIGINT does.

    Ended by default, a process would leave its temporary folders and child processes behind. A
    signal that is ignored, as `nohup` has it, stays so.
    """
    for number in ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)


def end_by_the_signal() -> None:
    """End this process by the signal that `_interrupt` was called for, if there was one.

    So whoever sent it sees that the process ended as asked, and not that it failed.
    """
    for number in _received[:1]:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    raise KeyboardInterrupt
