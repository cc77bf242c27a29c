"""Starts wsgi.py, or a program that starts it, with what Python has on macOS.

No epoll, no TCP_INFO, limits of another kind.
"""

# ruff: noqa: E402  (what must be gone before others are imported goes first)

import select

for _name in [name for name in dir(select) if name.lower().startswith("epoll")]:
    delattr(select, _name)  # before anything imports selectors

import resource
import runpy
import socket
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_setrlimit = resource.setrlimit


def setrlimit(kind: int, limits: tuple[int, int]) -> None:
    if kind == resource.RLIMIT_NOFILE and limits[0] == resource.RLIM_INFINITY:
        raise ValueError("current limit exceeds maximum limit")
    _setrlimit(kind, (limits[0], limits[0]))


del socket.TCP_INFO
resource.getrlimit = lambda _: (256, resource.RLIM_INFINITY)
resource.setrlimit = setrlimit
sys.path.insert(0, str(ROOT))
program = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "wsgi.py")
sys.argv = ["wsgi.py"]
runpy.run_path(program, run_name="__main__")
