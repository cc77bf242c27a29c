"""What a process may do that reads foreign bytes: compute, and talk over what it has open already.

On Linux a filter (seccomp) refuses it new programs, processes, connections and files to write. It
is a second wall: the first are the limits on time and memory, which app/images/sandbox.py sets.
"""

import contextlib
import ctypes
import os
import platform
import resource
import struct
import sys
from pathlib import Path

# <sys/prctl.h>
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_SECCOMP_MODE_FILTER = 2

# <linux/audit.h>, and the numbers of system calls, which differ between processors: those refused,
# and openat, which is refused for writing.
_PROCESSORS = {
    "x86_64": (
        0xC000003E,
        {
            **{"open": 2, "socket": 41, "connect": 42, "fork": 57, "vfork": 58, "execve": 59},
            **{"kill": 62, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86},
            **{"unlink": 87, "symlink": 88, "chmod": 90, "chown": 92, "ptrace": 101, "mount": 165},
            **{"unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266, "fchmodat": 268},
            **{"process_vm_readv": 310, "process_vm_writev": 311, "renameat2": 316, "bpf": 321},
            **{"execveat": 322, "pidfd_send_signal": 424, "io_uring_setup": 425, "openat2": 437},
        },
        257,
    ),
    "aarch64": (
        0xC00000B7,
        {
            **{"mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37, "renameat": 38},
            **{"mount": 40, "fchmodat": 53, "fchownat": 54, "ptrace": 117, "kill": 129},
            **{"socket": 198, "connect": 203, "execve": 221, "process_vm_readv": 270},
            **{"process_vm_writev": 271, "renameat2": 276, "bpf": 280, "execveat": 281},
            **{"pidfd_send_signal": 424, "io_uring_setup": 425, "openat2": 437},
        },
        56,
    ),
}

# <linux/bpf_common.h>, <linux/seccomp.h>: the filter's instructions, and what it may answer.
_LOAD, _IS, _AT_LEAST, _HAS, _ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # EPERM
_NUMBER, _PROCESSOR, _THIRD_ARGUMENT = 0, 4, 32  # where a call is described
_OTHER_ABI = 0x40000000  # x32's numbers: the same calls again
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def confine() -> None:
    """Leave this process, for good, what a decoder needs."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):  # where memory is short this process is the one to go
        Path("/proc/self/oom_score_adj").write_text("1000")
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if platform.machine() in _PROCESSORS:
        program = _filter(*_PROCESSORS[platform.machine()])
        code = ctypes.create_string_buffer(program, len(program))
        pointer = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
        # A kernel without filters says so, and is left as it is.
        libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, pointer, 0, 0)


def _filter(processor: int, refused: dict[str, int], openat: int) -> bytes:
    """The filter's program: (operation, steps over where true, where false, value) in a row."""
    steps = [
        (_LOAD, 0, 0, _PROCESSOR),
        (_IS, 1, 0, processor),
        (_ANSWER, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _OTHER_ABI),
        (_ANSWER, 0, 0, _REFUSE),
    ]
    for number in refused.values():
        steps += [(_IS, 0, 1, number), (_ANSWER, 0, 0, _REFUSE)]
    steps += [
        (_IS, 0, 3, openat),
        (_LOAD, 0, 0, _THIRD_ARGUMENT),
        (_HAS, 0, 1, _WRITING),
        (_ANSWER, 0, 0, _REFUSE),
        (_ANSWER, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
