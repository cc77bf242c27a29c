"""Measure how soon the service answers after its start, and the memory of a worker.

    python -m benchmarks.start [--runs 7]

A run starts `python wsgi.py` on a free port, waits until it is ready, classifies a sample 200
times, reads the memory of the largest worker from /proc, and stops the service. A second start uses
one worker, which classifies with every model of the repository. Each run also starts an empty Flask
application in gunicorn with two workers. The output is the median of the runs, the processor time
first, with its ratio to the empty application of the same run. Linux only.
"""

import argparse
import json
import statistics
import sys
import time
import urllib.request

from benchmarks.serving import (
    ROOT,
    Body,
    answers,
    children,
    cpu_seconds,
    free_port,
    memory_mib,
    running,
    service,
)

PICTURE = Body("image/png", (ROOT / "app/static/samples/mnist/seven.png").read_bytes())
KINDS = ("Rss", "Pss")


def largest_worker(process: int) -> dict[str, float]:
    """Return the memory in MiB, by kind, of the worker with the most resident memory."""
    workers = [{kind: memory_mib(pid, kind) for kind in KINDS} for pid in children(process)]
    return max(workers, key=lambda memory: memory["Rss"])


def empty_start() -> tuple[float, float]:
    """Return the processor time and the time on the clock until an empty application answers."""
    port = free_port()
    command = ("gunicorn", "--workers", "2", "--bind", f"127.0.0.1:{port}", "empty_server:app")
    with running(
        (sys.executable, "-m", *command),
        f"http://127.0.0.1:{port}/predict",
        PICTURE,
        cwd=ROOT / "benchmarks/peers",
    ) as (process, ready):
        return cpu_seconds(process), ready


def one_start() -> dict[str, float]:
    empty_cpu, empty_ready = empty_start()
    started = time.perf_counter()
    with service() as (process, url):
        ready, cpu = time.perf_counter() - started, cpu_seconds(process)
        assert answers(f"{url}/predict", PICTURE)
        first = time.perf_counter() - started
        for _ in range(200):
            assert answers(f"{url}/predict", PICTURE)
        worker = largest_worker(process)
    with service(workers=1) as (process, url):
        with urllib.request.urlopen(f"{url}/api/models") as response:
            models = json.load(response)["models"]
        for model in models:
            choice = f"rule={model['rule']}&version={model['version']}"
            assert answers(f"{url}{model['endpoint']}?{choice}", PICTURE)
        full = largest_worker(process)
    return (
        {"CPU until ready, s": cpu, "its ratio to an empty route": cpu / empty_cpu}
        | {"ready, s": ready, "its ratio": ready / empty_ready, "first prediction, s": first}
        | {f"worker {kind}, MiB": memory for kind, memory in worker.items()}
        | {f"with every model {kind}, MiB": memory for kind, memory in full.items()}
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
