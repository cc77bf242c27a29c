"""What the benchmarks of the running service share: starting it, loading it, weighing it."""

import contextlib
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
    """What a client sends."""

    kind: str  # Content-Type
    data: bytes


@dataclass(frozen=True)
class Load:
    """What a load generator saw."""

    rate: float  # answers with status 200 a second
    p50: float  # their latency, milliseconds
    p99: float
    refused: int = 0  # answers with another status
    refused_p99: float = 0.0
    lost: int = 0  # requests without an answer


def form_of(picture: bytes) -> Body:
    """`picture` as a browser's form sends it."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="image.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
    )
    return Body(FORM, head.encode() + picture + f"\r\n--{BOUNDARY}--\r\n".encode())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def need(*programs: str) -> None:
    """Stop with a word on where to get them where Debian's `programs` are missing."""
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
    """A server that has answered `body` at `url`: its process, and the seconds until then."""
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
    """SIGTERM, and after ten seconds SIGKILL, to the server and whatever it started."""
    server.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(timeout=10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@contextlib.contextmanager
def service(**settings: object) -> Iterator[tuple[int, str]]:
    """Metaplastic with METAPLASTIC_<name> set: its process and URL."""
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


def closed_loop(
    url: str, body: Body, *, clients: int = 8, seconds: float = 5, keep: bool = True
) -> Load:
    """wrk: so many clients, each of which asks again when it has its answer."""
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
    """h2load: connections at a constant rate, one request each, whether others are answered."""
    count = max(1, round(rate * seconds))
    period = max(1, round(1000 / rate))  # milliseconds between two bunches, as small as can be
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
    """What an application in this process writes to stdout goes to /dev/null."""
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
    """The processes that a process has started: the service's workers."""
    found: set[int] = set()
    for task in Path(f"/proc/{process}/task").iterdir():
        found |= set(map(int, (task / "children").read_text().split()))
    return found


def family(process: int) -> list[int]:
    """A process and all below it."""
    found = [process]
    for pid in found:
        with contextlib.suppress(OSError):
            found += children(pid)
    return found


def memory_mib(process: int, kind: str = "Pss") -> float:
    """Proportional (or Rss) memory of one process."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith(f"{kind}:"):
                return int(line.split()[1]) / 1024
    return 0.0


def cpu_seconds(process: int, *, ended: bool = False) -> float:
    """That a process and all below it have used; with `ended` also those that are no more."""
    ticks = 0
    for pid in family(process):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11 : 15 if ended else 13]))
    return ticks / os.sysconf("SC_CLK_TCK")
