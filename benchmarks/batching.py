"""Measure the largest possible gain from collecting requests into batches.

    python -m benchmarks.batching [--cache FOLDER]

The networks are the published LeNet and an untrained GoogLeNet with 79 million multiply-adds (from
benchmarks/serve.py). For each, the table shows the inference time of an image in microseconds, in
batches of 1 to 16, on one thread. It also shows the share of a whole request (`whole` in
benchmarks/stages.py) that a batch would save if collecting it cost nothing.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from app.catalogue.load import load_catalogue
from app.settings import Settings
from benchmarks.serve import CACHE, ServedNetwork, large, small
from benchmarks.stages import Clock, measure, service_asked

SIZES = (1, 2, 4, 8, 16)
ROUNDS = 60


def inference_us(network: ServedNetwork) -> dict[int, float]:
    """Return the median time of one image in microseconds, by batch size."""
    catalogue = load_catalogue(Settings(weights=network.weights))
    run = catalogue.endpoints[network.endpoint].find().network
    seconds: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(ROUNDS):
        for size in SIZES:
            pixels = np.repeat(network.tensor, size, axis=0)
            started = time.thread_time_ns()
            run(pixels)
            seconds[size].append((time.thread_time_ns() - started) / 1000 / size)
    return {size: statistics.median(values) for size, values in seconds.items()}


def whole_us(network: ServedNetwork) -> float:
    clock, took = Clock(), {}
    clock.whole = True
    asked = service_asked(network.endpoint, weights=network.weights)
    for _ in range(300):
        measure(clock, asked, took)
    return statistics.median(took["whole"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=CACHE)
    wanted = parser.parse_args()
    wanted.cache.mkdir(parents=True, exist_ok=True)
    print(f"| network | {' | '.join(f'batch {size}' for size in SIZES)} | whole request | saved |")
    print("| --- " * (len(SIZES) + 3) + "|")
    for network in (small(), large(wanted.cache)):
        each, whole = inference_us(network), whole_us(network)
        saved = (each[1] - min(each.values())) / whole
        cells = " | ".join(f"{each[size]:.0f} us" for size in SIZES)
        print(f"| {network.endpoint} | {cells} | {whole:.0f} us | {saved:.0%} |")


if __name__ == "__main__":
    main()
