"""Measure the cost of a metaplastic training step, as a ratio to that of its base optimizer.

    python -m benchmarks.optimizer_step [--steps 100] [--results docs/results]

The networks are LeNet on 28x28x1 and a VGG with 3 blocks (32, 64, 128) on 32x32x3, with batches of
128 generated images, in the layout that training uses. The optimizers take turns, step by step, so
that changes in the load of the computer affect all of them alike. The output, which is also written
to optimizer-step.csv, is the median of the ratios with their quartiles. Each installed backend runs
in its own process.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from studies.groups import STRENGTHS
from studies.results import write_rows
from studies.step_cost import step_cost

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

BACKENDS = ("tensorflow", "torch", "jax")
BATCH = 128
CLASSIC = {"width": 32, "dense": 128, "whiten": False, "early_pool": False, "logit_scale": 1.0}
NETWORKS = {  # shape of the images, options, share of the steps (a VGG step takes longer)
    "lenet": ((28, 28, 1), {"dropout": 0.3}, 1.0),
    "vgg": ((32, 32, 3), CLASSIC, 0.2),
}


def rows(steps: int) -> list[dict[str, object]]:
    """Return a row for each network, optimizer and rule, on the backend of KERAS_BACKEND."""
    import keras
    import numpy as np

    from models.training.hardware import hardware

    bases = {
        "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
        "adam": lambda: keras.optimizers.Adam(1e-3),
    }
    found = []
    for architecture, (shape, options, share) in NETWORKS.items():
        for base, make in bases.items():
            count = max(round(share * steps), 1)
            times = turns(architecture, shape, options, make, count)
            for rule in STRENGTHS:
                ratios = [step[rule] / step["baseline"] for step in times]
                low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
                milliseconds = 1e3 * float(np.median([step["baseline"] for step in times]))
                found.append(
                    {
                        **{"backend": keras.backend.backend(), "architecture": architecture},
                        **{"optimizer": base, "rule": rule, "plain_ms": f"{milliseconds:.1f}"},
                        **{"ratio": f"{middle:.4f}", "low": f"{low:.4f}", "high": f"{high:.4f}"},
                        **{"steps": count, "batch": BATCH, "hardware": hardware()},
                    }
                )
    return found


def turns(architecture, shape, options, make, steps):
    """Return, for each turn, the seconds of one step of each optimizer."""
    import keras
    import numpy as np

    from models.architectures import build
    from models.plasticity.metaplastic import Metaplastic
    from models.training.fast_clone import fast_clone

    random = np.random.default_rng(0)
    images = random.random((BATCH, *shape), np.float32)
    labels = random.integers(0, 10, BATCH)
    optimizers = {"baseline": make()} | {rule: Metaplastic(make(), rule) for rule in STRENGTHS}
    models = {}
    for name, optimizer in optimizers.items():
        given = (0.5,) * shape[-1], (0.25,) * shape[-1]
        models[name] = fast_clone(build(architecture, shape, 10, *given, **options), "float32")
        models[name].compile(
            optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        for _ in range(3):  # the first steps compile
            seconds(models[name], images, labels)
    return [
        {name: seconds(model, images, labels) for name, model in models.items()}
        for _ in range(steps)
    ]


def seconds(model, images, labels) -> float:
    """Return the seconds of one training step, with the loss weights of the rule `pattern`."""
    import keras

    weigh = getattr(model.optimizer, "loss_weights", None)
    started = time.perf_counter()
    weights = None if weigh is None else keras.ops.convert_to_numpy(weigh(images))
    float(model.train_on_batch(images, labels, sample_weight=weights))
    return time.perf_counter() - started


def measured(backend: str, steps: int) -> list[dict[str, str]]:
    """Return `rows`, computed in a new process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.optimizer_step", "--one", "--steps", str(steps)],
        env={**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(done.stdout.strip().rpartition("\n")[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.one:
        print(json.dumps(rows(wanted.steps)))
        return
    found = []
    for backend in BACKENDS:
        if importlib.util.find_spec(backend):
            found += measured(backend, wanted.steps)
    write_rows(wanted.results / "optimizer-step.csv", found)
    print("\n\n".join(step_cost(wanted.results)))


if __name__ == "__main__":
    main()
