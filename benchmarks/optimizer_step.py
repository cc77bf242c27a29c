"""The cost of a metaplastic training step against its base optimizer's, as a ratio.

    python -m benchmarks.optimizer_step [--rounds 12] [--steps 20]

LeNet on 28x28x1, batch 128, made images. The optimizers take turns, round after round, so that the
machine's mood hits all of them alike; the median over the rounds of each round's ratio is printed
with its quartiles. KERAS_BACKEND chooses the backend.
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
    """One epoch over `images`, the loss weights of the rule `pattern` included."""
    weigh = getattr(model.optimizer, "loss_weights", None)
    started = time.perf_counter()
    weights = (
        None
        if weigh is None
        else np.concatenate(
            [
                keras.ops.convert_to_numpy(weigh(images[i : i + BATCH]))
                for i in range(0, len(images), BATCH)
            ]
        )
    )
    model.fit(images, labels, sample_weight=weights, batch_size=BATCH, verbose=0, shuffle=False)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=20)
    wanted = parser.parse_args()
    random = np.random.default_rng(0)
    images = random.random((wanted.steps * BATCH, 28, 28, 1), np.float32)
    labels = random.integers(0, 10, len(images))
    print(f"{keras.backend.backend()}, Keras {keras.version()}, {os.cpu_count()} cores")
    for base, make in BASES.items():
        models = {"plain": network(make())}
        models |= {rule: network(Metaplastic(make(), rule)) for rule in RULES}
        for model in models.values():
            seconds(model, images[: 2 * BATCH], labels[: 2 * BATCH])  # compiles
        rounds = [
            {name: seconds(model, images, labels) for name, model in models.items()}
            for _ in range(wanted.rounds)
        ]
        plain = np.median([times["plain"] for times in rounds]) / wanted.steps
        print(f"{base}: plain step {plain * 1e3:.1f} ms")
        for rule in RULES:
            ratios = [times[rule] / times["plain"] for times in rounds]
            low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
            print(f"  {rule:14} {middle:.3f} times the plain step ({low:.3f} - {high:.3f})")


if __name__ == "__main__":
    main()
