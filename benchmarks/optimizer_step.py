"""The cost of a metaplastic training step against its base optimizer's, as a ratio.

    python -m benchmarks.optimizer_step [--steps 100]

LeNet on 28x28x1, batch 128, made images. The optimizers take turns, step by step, so that the
machine's mood hits all of them alike; printed is the median of the steps' ratios, with their
quartiles. KERAS_BACKEND chooses the backend.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from models.architectures import build
from models.plasticity.metaplastic import Metaplastic

BATCH = 128
BASES = {
    "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(1e-3),
}
RULES = ("kernel", "consolidating", "pattern")


def network(optimizer: keras.optimizers.Optimizer) -> keras.Model:
    model = build("lenet", (28, 28, 1), 10, (0.1307,), (0.3081,), dropout=0.3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    return model


def seconds(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> float:
    """One training step on a batch, the loss weights of the rule `pattern` included."""
    weigh = getattr(model.optimizer, "loss_weights", None)
    started = time.perf_counter()
    weights = None if weigh is None else keras.ops.convert_to_numpy(weigh(images))
    model.train_on_batch(images, labels, sample_weight=weights)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    wanted = parser.parse_args()
    random = np.random.default_rng(0)
    images = random.random((BATCH, 28, 28, 1), np.float32)
    labels = random.integers(0, 10, BATCH)
    print(f"{keras.backend.backend()}, Keras {keras.version()}, {os.cpu_count()} cores")
    for base, make in BASES.items():
        models = {"plain": network(make())}
        models |= {rule: network(Metaplastic(make(), rule)) for rule in RULES}
        for model in models.values():
            for _ in range(3):  # the first ones compile
                seconds(model, images, labels)
        steps = [
            {name: seconds(model, images, labels) for name, model in models.items()}
            for _ in range(wanted.steps)
        ]
        plain = np.median([times["plain"] for times in steps])
        print(f"{base}: plain step {plain * 1e3:.1f} ms")
        for rule in RULES:
            ratios = [times[rule] / times["plain"] for times in steps]
            low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
            print(f"  {rule:14} {middle:.3f} times the plain step ({low:.3f} - {high:.3f})")


if __name__ == "__main__":
    main()
