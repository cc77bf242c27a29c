"""The confinement of a process that decodes untrusted pictures.

On Linux a seccomp filter denies it new programs, processes and connections, and opening files for
writing. This is a second protection after the limits on time and memory in app/images/sandbox.py.
"""

import contextlib
import ctypes
import os
import platform
import resource
import struct
import sys
from pathlib import Path

# From <sys/prctl.h>.
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_SECCOMP_MODE_FILTER = 2

# From <linux/audit.h>: the processor's number. Then the numbers of system calls, which differ
# between processors: those that are denied, and openat, which is denied for writing.
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

# From <linux/bpf_common.h> and <linux/seccomp.h>: the filter's instructions, and its results.
_LOAD, _IS, _AT_LEAST, _HAS, _ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # EPERM
_NUMBER, _PROCESSOR, _THIRD_ARGUMENT = 0, 4, 32  # offsets in the description of a call
_OTHER_ABI = 0x40000000  # the x32 ABI has the same calls with other numbers, from here on
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def confine() -> None:
    """Leave this process only what a decoder needs. This cannot be undone."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):  # if memory is short, the kernel ends this process first
        Path("/proc/self/oom_score_adj").write_text("1000")
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if platform.machine() in _PROCESSORS:
        program = _filter(*_PROCESSORS[platform.machine()])
        code = ctypes.create_string_buffer(program, len(program))
        pointer = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
        # A kernel without seccomp returns an error, and the process goes on without the filter.
        libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, pointer, 0, 0)


def _filter(processor: int, refused: dict[str, int], openat: int) -> bytes:
    """Return the filter's program: rows of (operation, steps to skip if true, if false, value)."""
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
