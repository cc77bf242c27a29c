"""Who calls: a key, or else an address."""

import ipaddress
from functools import lru_cache

from werkzeug.sansio.request import Request

from app.feedback.tokens import hash_address
from app.telemetry.record import current_record


def caller_of(request: Request) -> str:
    """Return what counts as one caller: `key:NAME`, or the network without a key."""
    record = current_record()
    if record and record.caller:
        return f"key:{record.caller}"
    return network_of(request.remote_addr or "")


def asker_of(request: Request, secret: bytes) -> str:
    """Return the caller as votes know it: `key:NAME`, or `address:` and a hash with `secret`."""
    caller = caller_of(request)
    return caller if caller.startswith("key:") else hash_address(caller, secret)


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """Return what counts as one caller: an IPv4 address, or the /64 network of an IPv6 address.

    A provider gives each customer at least a whole /64. Text that is not an address is returned as
    it is.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    # The lower 64 bits are set to 0.
    return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
