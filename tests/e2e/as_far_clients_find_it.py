"""Starts wsgi.py as clients far away find it: the end of their handshake takes its time."""

import runpy
import socket
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_listen = socket.socket.listen


def listen(sock: socket.socket, *backlog: int) -> None:
    """Listen as before, but have a handshake end with the client's first data."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 60)
    _listen(sock, *backlog)


socket.socket.listen = listen
sys.path.insert(0, str(ROOT))
sys.argv = ["wsgi.py"]
runpy.run_path(str(ROOT / "wsgi.py"), run_name="__main__")
