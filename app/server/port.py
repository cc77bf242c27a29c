"""How the kernel refuses new connections to a port while it keeps those that were made."""

import contextlib
import socket
import sys

# Socket options of Linux that Python's socket module lacks: the least time to live of a packet.
_IP_MINTTL = 21
_IPV6_MINHOPCOUNT = 73
_FARTHER_THAN_ANYTHING = 255  # systems send with 64 or 128, so every packet is dropped


def refuse_new_connections(listener: socket.socket) -> None:
    """Have the kernel ignore further connections to `listener`, a listening TCP socket.

    Existing connections stay. A client that tries again after a second finds the port closed. On
    other systems than Linux, the few clients that connect in the last moment are reset.
    """
    _hear_packets_from(listener, _FARTHER_THAN_ANYTHING)


def hear(connection: socket.socket) -> None:
    """Have the kernel receive what the client of an accepted `connection` sends.

    A connection whose handshake ends after `refuse_new_connections` inherits its option, so the
    kernel would drop the request. The client sends it again within a fraction of a second.
    """
    _hear_packets_from(connection, 0)


def _hear_packets_from(sock: socket.socket, least: int) -> None:
    """Ignore packets to `sock` that have a smaller time to live than `least`."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT, least)
        # An IPv6 socket may take IPv4 connections as well.
        sock.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, least)
