"""A Ray cluster that exists already, joined with a token and without reports to anybody."""

import logging
import os
import re
import socket
from typing import Any

from models.errors import MetaplasticError

SLOTS_PER_CPU = 4  # tasks that are handed over at once, so that no node waits for the next one

# Set before Ray is imported. Otherwise it sends usage data to its makers, asks for no token, and
# tries twenty times to join what is no cluster, which takes a quarter of an hour.
_ENVIRONMENT = {
    **{"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"},
    "RAY_NUM_REDIS_GET_RETRIES": "2",
}
_KNOCK = 10.0  # seconds that a head has to take a connection


class ClusterError(MetaplasticError):
    """A cluster that cannot be joined, or is gone."""


def join(address: str) -> Any:
    """Join the cluster at `address` and return the module `ray`.

    `address` is HOST:PORT of the cluster's head, or `auto` for the cluster that this machine
    belongs to. This machine must be one of its nodes (`ray start`), and know its token. No cluster
    is started. Raises ClusterError.
    """
    # Ray would start a cluster for `local`, and use another protocol for ray://.
    if not re.fullmatch(r"auto|(\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+):[0-9]{1,5}", address):
        raise ClusterError(f"--on: expected auto or HOST:PORT, found {address!r}")
    if address != "auto":
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _KNOCK).close()
        except (OSError, OverflowError) as error:
            raise _not_joined(address, error) from error
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise ClusterError("--on needs Ray: pip install -r requirements-cluster.txt") from error
    problems = (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except problems as error:
        raise _not_joined(address, error) from error
    return ray


def _not_joined(address: str, error: Exception) -> ClusterError:
    return ClusterError(
        f"--on {address}: the cluster cannot be joined ({error}). Start its head here with "
        "`ray start --head`, or join it with `ray start --address=HOST:PORT`; RAY_AUTH_TOKEN "
        "or RAY_AUTH_TOKEN_PATH must give the token that it was started with. See docs/bulk.md."
    )


def count(ray: Any, resource: str) -> int:
    """Return how many of a resource, such as CPU or GPU, the nodes have that are alive now."""
    return int(ray.cluster_resources().get(resource, 0))


def living_nodes(ray: Any) -> frozenset[str]:
    """Return the identifiers of the nodes that are alive."""
    return frozenset(node["NodeID"] for node in ray.nodes() if node["Alive"])
