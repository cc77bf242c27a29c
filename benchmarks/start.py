"""How soon the service answers after its command, and what a worker weighs.

    python -m benchmarks.start [--runs 7]

Starts `python wsgi.py` on a free port, waits until it is ready, has it classify a sample 200 times,
reads the largest worker's memory from /proc, and stops the service; the median of the runs is
printed. Linux only.
"""

import argparse
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
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def answered(url: str, body: bytes | None = None) -> bool:
    request = urllib.request.Request(url, data=body)
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


def one_start() -> dict[str, float]:
    port = free_port()
    environment = {**os.environ, "METAPLASTIC_PORT": str(port)}
    started = time.perf_counter()
    service = subprocess.Popen(
        [sys.executable, "wsgi.py"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not answered(f"http://127.0.0.1:{port}/health/ready"):
            if service.poll() is not None:
                raise SystemExit("the service did not start; run `python wsgi.py` to see why")
            time.sleep(0.005)
        ready = time.perf_counter() - started
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/models") as response:
            endpoint = json.load(response)["models"][0]["endpoint"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{endpoint}") as response:
            sample = json.load(response)["samples"][0]
        for _ in range(200):
            assert answered(f"http://127.0.0.1:{port}{endpoint}?sample={sample}", b"")
        children = Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()
        worker = max((memory_mb(int(pid)) for pid in children), key=lambda memory: memory["RSS"])
        return {"ready, s": ready} | {f"worker {kind}, MiB": mb for kind, mb in worker.items()}
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(timeout=60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    runs = [one_start() for _ in range(parser.parse_args().runs)]
    for figure in runs[0]:
        values = sorted(run[figure] for run in runs)
        print(
            f"{figure:20} {statistics.median(values):7.2f}   ({values[0]:.2f} - {values[-1]:.2f})"
        )


if __name__ == "__main__":
    main()
