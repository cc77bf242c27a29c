"""Real servers: `python wsgi.py` on a free port, asked by real clients."""

import contextlib
import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0  # seconds; a start takes less than one where nothing else runs


@dataclass
class Service:
    """A running service."""

    process: subprocess.Popen[Any]
    port: int
    seconds_to_ready: float
    log: Path | None = None  # what it prints, where that goes to a file and not to a pipe

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def workers(self) -> set[int]:
        """The process ids of gunicorn's workers."""
        pid = self.process.pid
        return {int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}

    def stop(self) -> tuple[int, str]:
        """SIGTERM; the exit status and everything that was printed."""
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, self.log.read_text() if self.log else output


def free_port() -> int:
    """Return a port below those of outgoing connections, so that no other test's takes it first."""
    while True:
        port = random.randrange(10_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def environment(**settings: object) -> dict[str, str]:
    """This process's variables, with METAPLASTIC_<name> for each of `settings`."""
    given = {f"METAPLASTIC_{name.upper()}": str(value) for name, value in settings.items()}
    return {**os.environ, **given}


@contextlib.contextmanager
def running(
    *, before: Sequence[str] = (), until: str = "/health/ready", **settings: object
) -> Iterator[Service]:
    """A service that is ready, on a port of its own where `settings` name none.

    `before` is a command that starts the one behind it; `until` is the path that answers 200 then.
    """
    port = int(str(settings.setdefault("port", free_port())))
    command = [*before, sys.executable, "wsgi.py"]
    with running_command(command, port, environment(**settings), until) as one:
        yield one


@contextlib.contextmanager
def running_command(
    command: list[str], port: int, variables: dict[str, str], until: str = "/health/ready"
) -> Iterator[Service]:
    """The service that a `command` starts on `port`, once the path `until` answers 200."""
    with tempfile.NamedTemporaryFile() as log:  # not a pipe: nobody would empty it
        yield from _running(command, port, Path(log.name), variables, until)


def _running(
    command: list[str], port: int, log: Path, variables: dict[str, str], until: str
) -> Iterator[Service]:
    started = time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=variables,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        while process.poll() is None and time.perf_counter() - started < PATIENCE:
            if answers(port, until):
                break
            time.sleep(0.005)  # between two looks, not in place of one
        else:
            process.kill()
            pytest.fail(f"The service is not ready:\n{log.read_text()}")
        yield Service(process, port, time.perf_counter() - started, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        process.wait(PATIENCE)


def answers(port: int, path: str) -> bool:
    """Return whether `path` answers 200, at a fraction of what asking in vain costs `requests`."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(client), contextlib.suppress(OSError, http.client.HTTPException):
        client.request("GET", path)
        return client.getresponse().status == 200
    return False


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """One service for all tests that do not stop it."""
    with running() as one:
        yield one


@pytest.fixture
def start() -> Callable[..., "contextlib.AbstractContextManager[Service]"]:
    """Start services with settings of one's own."""
    return running


@pytest.fixture
def fail_to_start() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python wsgi.py` with settings that it refuses."""

    def run(**settings: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "wsgi.py"],
            cwd=ROOT,
            env=environment(**{"port": free_port(), **settings}),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """A Ray cluster of two processors, whose nodes have no data sets."""
    from tests.e2e.ray_cluster import running_cluster  # it imports this file

    # Not below tmp_path: the names of Ray's sockets would be too long.
    with tempfile.TemporaryDirectory(prefix="ray-") as folder, running_cluster(Path(folder)) as one:
        yield one
