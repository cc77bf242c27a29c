"""Run a module of ours in a process of its own, since what it reads may end the process."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_ROOT = Path(__file__).parents[2]


class ApartError(Exception):
    """A process that failed: why, in one line."""


def run_apart(
    module: str, *arguments: object, seconds: float, environment: Mapping[str, str] | None = None
) -> str:
    """Run `python -m module arguments` and return what it prints.

    Raises ApartError with its last line on stderr if it fails, and if it takes longer than
    `seconds`.
    """
    paths = filter(None, (str(_ROOT), os.environ.get("PYTHONPATH")))
    told = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(environment or {})}
    command = [sys.executable, "-m", module, *map(str, arguments)]
    try:
        done = subprocess.run(  # noqa: S603
            command, env=told, capture_output=True, text=True, errors="replace", timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise ApartError(f"it took more than {seconds:g} s") from error
    if done.returncode < 0:
        raise ApartError(f"it ended the process ({signal.Signals(-done.returncode).name})")
    if done.returncode:
        raise ApartError(done.stderr.strip().rpartition("\n")[2] or "no reason was given")
    return done.stdout


def limit_memory(most: int) -> None:
    """Let this process have `most` bytes of address space, where the system has such a limit."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
