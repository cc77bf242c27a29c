"""A real Ray cluster of one node on this machine, with a token, and programs that use it."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.conftest import PATIENCE, ROOT, free_port

HOST = "127.0.0.2"  # Ray puts this machine's outer address in the place of 127.0.0.1
STORE = 100_000_000  # bytes of the object store


@dataclass(frozen=True)
class Cluster:
    """A running cluster: its address, and the variables of a program that may use it."""

    address: str
    variables: dict[str, str]
    head: int  # a process id

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a Python program on this machine until its end."""
        return subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env={**self.variables, **variables},
            capture_output=True,
            text=True,
            timeout=5 * PATIENCE,
            check=False,
        )

    def start(self, *command: str, **variables: str) -> subprocess.Popen[str]:
        """Start a Python program on this machine."""
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**self.variables, **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def at_work(self, task: str) -> list[int]:
        """Return the processes that carry out a task of this name now. Ray names them so."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                named = path.read_bytes().startswith(f"ray::{task}".encode())
                if named and f"={self.address}".encode() in variables_of(path.parent):
                    found.append(int(path.parent.name))
        return found

    def first_at_work(self, task: str) -> int:
        """Wait until a process carries out a task of this name, and return it."""
        ends = time.monotonic() + PATIENCE
        while not (found := self.at_work(task)):
            assert time.monotonic() < ends
            time.sleep(0.01)  # between two looks, not in place of one
        return found[0]


def variables_of(process: Path) -> bytes:
    """Return the environment of a process."""
    return (process / "environ").read_bytes()


@contextlib.contextmanager
def running_cluster(folder: Path, cpus: int = 2) -> Iterator[Cluster]:
    """Start a cluster whose files are in `folder`, and end it with all its processes."""
    port = free_port()
    address = f"{HOST}:{port}"
    variables = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OF_TEST_CLUSTER": address,
    }
    variables.pop("METAPLASTIC_DATA", None)  # its nodes have no data of their own
    command = [Path(sys.executable).parent / "ray", "start", "--head", "--block"]
    command += [f"--node-ip-address={HOST}", f"--port={port}", f"--num-cpus={cpus}"]
    command += [f"--ray-client-server-port={free_port()}", "--include-dashboard=false"]
    command += ["--min-worker-port=0", "--max-worker-port=0"]  # those that are free
    command += [f"--object-store-memory={STORE}", f"--temp-dir={folder}"]
    log = folder / "start.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=variables, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        ends = time.monotonic() + PATIENCE
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < ends, log.read_text()
            time.sleep(0.05)  # between two looks, not in place of one
        yield Cluster(address, variables, process.pid)
    finally:
        process.terminate()  # Ray ends its processes
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE / 4)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
