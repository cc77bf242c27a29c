"""A Ray cluster of two nodes, each in a network namespace: one joins, and one is lost."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import PATIENCE, ROOT
from tests.e2e.test_bulk_on_ray import PROGRAM, table, wait_for_parts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("ip") is None,
        reason="network namespaces need root and iproute2",
    ),
]
PREFIX = f"mp{os.getpid()}"
HEAD, NODE = "10.213.27.1", "10.213.27.2"
PORT = 6380
SOON = {  # a lost node is found in three seconds, and not in thirty
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextlib.contextmanager
def two_networks() -> Iterator[tuple[str, str]]:
    """Two namespaces with a cable between them."""
    names = (f"{PREFIX}a", f"{PREFIX}b")
    try:
        for name in names:
            ip("netns", "add", name)
        ends = (f"{PREFIX}x", f"{PREFIX}y")
        ip("link", "add", ends[0], "netns", names[0], "type", "veth", "peer", ends[1])
        ip("link", "set", ends[1], "netns", names[1])
        for name, end, address in zip(names, ends, (HEAD, NODE), strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


class Nodes:
    """Processes in namespaces, which all end with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.variables = {
            **os.environ,
            **SOON,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, network: str, log: str, *command: str) -> subprocess.Popen[str]:
        with (self.folder / log).open("w") as output:
            process = subprocess.Popen(
                ["ip", "netns", "exec", network, *command],
                cwd=ROOT,
                env=self.variables,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def ray(self, network: str, log: str, *options: str) -> subprocess.Popen[str]:
        ray = str(Path(sys.executable).parent / "ray")
        common = ["--num-cpus=1", "--object-store-memory=100000000", "--block"]
        process = self.start(network, log, ray, "start", *common, *options)
        self.wait_for(log, "Ray runtime started")
        return process

    def wait_for(self, log: str, text: str) -> None:
        ends = time.monotonic() + 2 * PATIENCE
        while text not in (told := (self.folder / log).read_text()):
            assert time.monotonic() < ends, told
            time.sleep(0.05)  # between two looks, not in place of one

    def end(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE / 4)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)


def test_a_node_that_joins_helps_and_a_node_that_is_lost_loses_nothing(tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "results.csv"
    folder.mkdir()
    for number in range(1500):
        (folder / f"{number:04}").write_bytes(f"{number % 10} is it".encode())
    with tempfile.TemporaryDirectory(prefix="ray-") as place, two_networks() as (first, second):
        nodes = Nodes(Path(place))
        try:
            head = [f"--node-ip-address={HEAD}", f"--port={PORT}", f"--temp-dir={place}/ray"]
            nodes.ray(first, "head.log", "--head", "--include-dashboard=false", *head)
            command = [sys.executable, "-c", PROGRAM, str(folder), str(out), "unhurried"]
            program = nodes.start(first, "command.log", *command, f"{HEAD}:{PORT}")
            wait_for_parts(out, 5)
            nodes.ray(second, "node.log", f"--address={HEAD}:{PORT}", f"--node-ip-address={NODE}")
            nodes.wait_for("command.log", "2 nodes at work, 2 CPUs")
            wait_for_parts(out, 150)
            ip("-n", second, "link", "set", f"{PREFIX}y", "down")  # the cable is cut
            nodes.wait_for("command.log", "1 node at work, 1 CPUs")
            assert program.wait(5 * PATIENCE) == 0, (nodes.folder / "command.log").read_text()
            told = (nodes.folder / "command.log").read_text()
            print(told)
        finally:
            nodes.end()
    assert "a node is lost" in told
    assert table(out) == {path.name: path.name[-1] for path in folder.iterdir()}
