"""Measure the images per second in training, by Keras backend and layout.

    python -m benchmarks.train [--rounds 3] [--steps 5]

The network is a VGG with 3 blocks (32, 64, 128) and batch normalisation on 32x32x3, with batches of
256 generated images. `published` is the network as it is published. `fast clone` is its clone from
models/training/fast_clone.py, which `python -m models train` uses; they differ only on PyTorch.
Each line is measured in its own process. The lines take turns, and the output is the median over
the rounds, also as a ratio to the first line. Backends that are not installed are left out.
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

BATCH = 256
LINES = (
    ("tensorflow", "published", "float32"),
    ("tensorflow", "published", "mixed_bfloat16"),
    ("jax", "published", "float32"),
    ("torch", "published", "float32"),
    ("torch", "published", "mixed_bfloat16"),
    ("torch", "fast clone", "float32"),
    ("torch", "fast clone", "mixed_bfloat16"),
)


def images_per_second(layout: str, precision: str, steps: int) -> float:
    """Return the median over `steps` training steps, on the backend of KERAS_BACKEND."""
    import keras
    import numpy as np

    from models.architectures import build
    from models.training.fast_clone import fast_clone

    if layout == "published":
        keras.config.set_dtype_policy(precision)
    network = build(
        *("vgg", (32, 32, 3), 10, (0.5,) * 3, (0.25,) * 3),
        **{"width": 32, "whiten": False, "early_pool": False, "logit_scale": 1.0},
    )
    model = network if layout == "published" else fast_clone(network, precision)
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
        keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    random = np.random.default_rng(0)
    images = random.random((BATCH, 32, 32, 3), np.float32)
    labels = np.eye(10, dtype=np.float32)[random.integers(0, 10, BATCH)]
    seconds = []
    for step in range(steps + 2):  # the first two compile
        started = time.perf_counter()
        float(model.train_on_batch(images, labels))
        if step >= 2:
            seconds.append(time.perf_counter() - started)
    return BATCH / statistics.median(seconds)


def measure(backend: str, layout: str, precision: str, steps: int) -> float:
    """Return `images_per_second`, measured in a new process."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.train"),
            *("--one", layout, precision, "--steps", str(steps)),
        ],
        env={**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        text=True,
    )
    return float(done.stdout.strip().rpartition("\n")[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--one", nargs=2, metavar=("LAYOUT", "PRECISION"), help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.one:
        print(images_per_second(*wanted.one, wanted.steps))
        return
    lines = [line for line in LINES if importlib.util.find_spec(line[0])]
    rounds = [{line: measure(*line, wanted.steps) for line in lines} for _ in range(wanted.rounds)]
    first = lines[0]
    print(f"{os.cpu_count()} cores; images/s of {first[0]}, {first[1]}, {first[2]} = 1")
    for line in lines:
        rates = [figures[line] for figures in rounds]
        ratios = [figures[line] / figures[first] for figures in rounds]
        backend, layout, precision = line
        print(
            f"{backend:11} {layout:10} {precision:15} {statistics.median(rates):6.0f} images/s"
            f"  {statistics.median(ratios):5.2f} ({min(ratios):.2f} - {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
