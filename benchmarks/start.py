"""How soon the service answers after its command, and what a worker weighs.

    python -m benchmarks.start [--runs 7]

Starts `python wsgi.py` on a free port, waits until it is ready and has it classify a sample, the
first of 200, reads the largest worker's memory from /proc, and stops the service. Then once more
with one worker, which every model on the shelf has to answer through. The median of the runs is
printed. Linux only.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = (ROOT / "app/static/samples/mnist/seven.png").read_bytes()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def answered(url: str, body: bytes | None = None) -> bool:
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "image/png"})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


def memory_mb(pid: int) -> dict[str, float]:
    """Resident, proportional and private memory of a process, in MiB."""
    kilobytes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if rest.strip().endswith("kB"):
            kilobytes[name] = int(rest.split()[0])
    private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return {
        "RSS": kilobytes["Rss"] / 1024,
        "PSS": kilobytes["Pss"] / 1024,
        "private": private / 1024,
    }


@contextlib.contextmanager
def running(**variables: str) -> Iterator[tuple[int, str]]:
    """The process id and the URL of a service that is ready."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "METAPLASTIC_PORT": str(port), **variables}
    service = subprocess.Popen(
        [sys.executable, "wsgi.py"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not answered(f"{url}/health/ready"):
            if service.poll() is not None:
                raise SystemExit("the service did not start; run `python wsgi.py` to see why")
            time.sleep(0.005)
        yield service.pid, url
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(timeout=60)


def largest_worker(service: int) -> dict[str, float]:
    children = Path(f"/proc/{service}/task/{service}/children").read_text().split()
    return max((memory_mb(int(pid)) for pid in children), key=lambda memory: memory["RSS"])


def one_start() -> dict[str, float]:
    started = time.perf_counter()
    with running() as (service, url):
        ready = time.perf_counter() - started
        assert answered(f"{url}/predict", PICTURE)
        first = time.perf_counter() - started
        for _ in range(200):
            assert answered(f"{url}/predict", PICTURE)
        worker = largest_worker(service)
    with running(METAPLASTIC_WORKERS="1") as (service, url):
        with urllib.request.urlopen(f"{url}/api/models") as response:
            models = json.load(response)["models"]
        for model in models:
            choice = f"rule={model['rule']}&version={model['version']}"
            assert answered(f"{url}{model['endpoint']}?{choice}", PICTURE)
        full = largest_worker(service)
    return (
        {"ready, s": ready, "first prediction, s": first}
        | {f"worker {kind}, MiB": mb for kind, mb in worker.items()}
        | {f"with every model {kind}, MiB": mb for kind, mb in full.items()}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    runs = [one_start() for _ in range(parser.parse_args().runs)]
    for figure in runs[0]:
        values = sorted(run[figure] for run in runs)
        print(
            f"{figure:30} {statistics.median(values):7.2f}   ({values[0]:.2f} - {values[-1]:.2f})"
        )


if __name__ == "__main__":
    main()
