"""Shared code of the benchmarks: start the service, send load, measure memory and time."""

import contextlib
import math
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BOUNDARY = "0123456789abcdef0123456789abcdef"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


@dataclass(frozen=True)
class Body:
    """The body of a request."""

    kind: str  # Content-Type
    data: bytes


@dataclass(frozen=True)
class Load:
    """The result of a load generator."""

    rate: float  # answers with status 200 per second
    p50: float  # their latency, milliseconds
    p99: float
    refused: int = 0  # answers with another status
    refused_p99: float = 0.0
    lost: int = 0  # requests without an answer


def form_of(picture: bytes) -> Body:
    """Return `picture` in a form, as a browser sends it."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="image.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
    )
    return Body(FORM, head.encode() + picture + f"\r\n--{BOUNDARY}--\r\n".encode())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def need(*programs: str) -> None:
    """Exit with instructions if one of Debian's `programs` is missing."""
    packages = {"h2load": "nghttp2-client", "nginx": "nginx-light"}
    if missing := [name for name in programs if not shutil.which(name)]:
        names = " ".join(packages.get(name, name) for name in missing)
        raise SystemExit(f"{', '.join(missing)} missing: apt-get install {names}")


def answers(url: str, body: Body | None = None) -> bool:
    headers = {"Content-Type": body.kind} if body else {}
    request = urllib.request.Request(url, data=body.data if body else None, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    url: str,
    body: Body | None = None,
    variables: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
) -> Iterator[tuple[int, float]]:
    """Run a server. When it answers `body` at `url`, yield its process and the seconds it took."""
    with tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        server = subprocess.Popen(
            [str(word) for word in command],
            cwd=cwd,
            env={**os.environ, **(variables or {})},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            while not answers(url, body):
                if server.poll() is not None or time.perf_counter() - started > 120:
                    log.seek(0)
                    last = log.read().decode(errors="replace")[-2000:]
                    raise RuntimeError(f"{command[0]} does not answer:\n{last}")
                time.sleep(0.005)
            yield server.pid, time.perf_counter() - started
        finally:
            _end(server)


def _end(server: "subprocess.Popen[bytes]") -> None:
    """Stop a server with SIGTERM. After ten seconds, kill it and its child processes."""
    server.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(timeout=10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@contextlib.contextmanager
def service(**settings: object) -> Iterator[tuple[int, str]]:
    """Run Metaplastic with the given METAPLASTIC_<NAME> settings and yield its process and URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    variables = {f"METAPLASTIC_{name.upper()}": str(value) for name, value in settings.items()}
    variables["METAPLASTIC_PORT"] = str(port)
    command = [sys.executable, "wsgi.py"]
    with running(command, f"{url}/health/ready", variables=variables) as (process, _):
        yield process, url


_WRK = """
local file = io.open(os.getenv("BODY"), "rb")
wrk.method, wrk.body = "POST", file:read("*a")
wrk.headers["Content-Type"] = os.getenv("KIND")
if os.getenv("CLOSE") == "1" then wrk.headers["Connection"] = "close" end
done = function(summary, latency, requests)
    local errors = summary.errors
    print(string.format("RESULT %d %f %f %f %d %d", summary.requests, summary.duration / 1e6,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout))
end
"""


def asked(
    processes: Sequence[int], url: str, body: Body, *, seconds: float = 5, keep: bool = True
) -> tuple[float, Load]:
    """Return the processor time of an answer in microseconds, and the load of eight clients.

    The time is that of `processes` and their descendants. It is infinite if nothing is answered.
    """
    before = sum(map(cpu_seconds, processes))
    load = closed_loop(url, body, seconds=seconds, keep=keep)
    answered = load.rate * max(1, round(seconds))
    used = sum(map(cpu_seconds, processes)) - before
    return (1e6 * used / answered if answered else math.inf), load


def closed_loop(
    url: str, body: Body, *, clients: int = 8, seconds: float = 5, keep: bool = True
) -> Load:
    """Run wrk: each client sends the next request when it has its answer."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "body").write_bytes(body.data)
        (folder / "script.lua").write_text(_WRK)
        done = subprocess.run(
            [
                *("wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"),
                *("-s", str(folder / "script.lua"), url),
            ],
            env={
                **os.environ,
                "BODY": str(folder / "body"),
                "KIND": body.kind,
                "CLOSE": "0" if keep else "1",
            },
            capture_output=True,
            text=True,
            check=True,
        )
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    _, count, took, p50, p99, refused, lost = line.split()
    served = int(count) - int(refused)
    return Load(served / float(took), float(p50), float(p99), int(refused), 0.0, int(lost))


def open_loop(url: str, body: Body, *, rate: float, seconds: float = 5) -> Load:
    """Run h2load: new connections with one request each, at a constant rate."""
    count = max(1, round(rate * seconds))
    period = max(1, round(1000 / rate))  # milliseconds between two groups, as small as possible
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "body").write_bytes(body.data)
        subprocess.run(
            [
                *("h2load", "--h1", "-t1", f"-c{count}", f"-n{count}"),
                *(f"-r{max(1, round(rate * period / 1000))}", f"--rate-period={period}ms"),
                *("-T30s", "-N30s", "-d", str(folder / "body")),
                *("-H", f"Content-Type: {body.kind}", f"--log-file={folder / 'log'}", url),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        rows = [line.split() for line in (folder / "log").read_text().splitlines()]
    served = [int(row[2]) / 1000 for row in rows if row[1] == "200"]
    refused = [int(row[2]) / 1000 for row in rows if row[1] not in ("200", "-1", "0")]
    starts = [int(row[0]) for row in rows]
    took = (max(starts) - min(starts)) / 1e6 or seconds
    return Load(
        len(served) / took,
        percentile(served, 0.5),
        percentile(served, 0.99),
        len(refused),
        percentile(refused, 0.99),
        count - len(served) - len(refused),
    )


@contextlib.contextmanager
def log_lines_thrown_away() -> Iterator[None]:
    """Send what this process writes to stdout to /dev/null."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))] if values else float("nan")


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")


def children(process: int) -> set[int]:
    """Return the child processes of a process, such as the workers of the service."""
    found: set[int] = set()
    for task in Path(f"/proc/{process}/task").iterdir():
        found |= set(map(int, (task / "children").read_text().split()))
    return found


def family(process: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [process]
    for pid in found:
        with contextlib.suppress(OSError):
            found += children(pid)
    return found


def memory_mib(process: int, kind: str = "Pss") -> float:
    """Return the memory of one process in MiB, proportional (Pss) or resident (Rss)."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith(f"{kind}:"):
                return int(line.split()[1]) / 1024
    return 0.0


def cpu_seconds(process: int, *, ended: bool = False) -> float:
    """Return the processor time of a process and its descendants.

    With `ended`, include child processes that have ended.
    """
    ticks = 0
    for pid in family(process):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11 : 15 if ended else 13]))
    return ticks / os.sysconf("SC_CLK_TCK")
