"""Measure the cost of metrics, log lines and request ids, as a ratio to requests without them.

    python -m benchmarks.observing [--rounds 60]

The application is called as a server calls it, without a network, with a PNG of a digit. Blocks of
50 requests with and without telemetry take turns. Metrics are counted in files in memory, as in a
worker. The log goes to /dev/null. The output is the median processor time of the blocks in
microseconds.
"""

import argparse
import os
import statistics
import tempfile
import time
from typing import Any

from benchmarks.serving import ROOT, log_lines_thrown_away
from benchmarks.stages import environment

PICTURE = (ROOT / "app/static/samples/mnist/seven.png").read_bytes()
BLOCK = 50


def microseconds(application: Any) -> float:
    """Return the processor time of one request in microseconds, averaged over one block."""
    started = time.thread_time()
    for _ in range(BLOCK):
        answer = application(environment("/predict", PICTURE, "image/png"), lambda *_: None)
        b"".join(answer)
        answer.close()
    return 1e6 * (time.thread_time() - started) / BLOCK


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        from app import create_app

        observed, unobserved = create_app(), create_app()
        for hooks in (unobserved.before_request_funcs, unobserved.after_request_funcs):
            hooks[None] = [hook for hook in hooks[None] if hook.__module__ != "app.telemetry.hooks"]
        times: dict[str, list[float]] = {"without": [], "with": []}
        with log_lines_thrown_away():
            for _ in range(rounds + 1):
                times["without"].append(microseconds(unobserved))
                times["with"].append(microseconds(observed))
    without, observed_time = (statistics.median(values[1:]) for values in times.values())
    print(f"without telemetry  {without:7.1f} us per request")
    print(f"with telemetry     {observed_time:7.1f} us per request   {observed_time / without:.3f}")


if __name__ == "__main__":
    main()
