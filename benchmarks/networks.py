"""What a network costs by itself, in floats and in 8-bit integers, beside another checkout's.

    git worktree add ../before TAG
    python -m benchmarks.networks [../before] [--models cifar10/googlenet ...] [--rounds 150]

One thread and one image, as a worker runs it. The files take turns, so that whatever else the
machine does meets all of them. Printed are medians of the processor time in microseconds, and the
medians of the ratios of all rounds. Without `--models` it is every endpoint's default model.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from app.catalogue.catalogue import Model
from app.catalogue.load import load_catalogue
from app.catalogue.network import Network, open_network
from app.settings import CPU, Settings
from models.cards import INT8_MODEL, ONNX_MODEL
from models.processor import multiplies_int8

WARM_UP = 10  # rounds that are not counted


def networks(model: Model, before: Path | None, root: Path) -> dict[str, Network]:
    """Return the networks to measure by the column that they stand in."""
    image = model.card.input
    shape, classes = (image.height, image.width, image.channels), len(model.card.labels)
    files = {"now": model.folder / ONNX_MODEL}
    if before is not None:
        files = {"before": before / model.folder.relative_to(root) / ONNX_MODEL, **files}
    if model.card.int8 and multiplies_int8():
        files["int8"] = model.folder / INT8_MODEL
    return {
        column: open_network(path.read_bytes(), shape, classes, [CPU])
        for column, path in files.items()
        if path.exists()
    }


def measured(each: dict[str, Network], image: np.ndarray, rounds: int) -> dict[str, list[float]]:
    """Microseconds of processor time by column, a round each."""
    taken: dict[str, list[float]] = {column: [] for column in each}
    for number in range(WARM_UP + rounds):
        for column, network in each.items():
            started = time.thread_time_ns()
            network(image)
            if number >= WARM_UP:
                taken[column].append((time.thread_time_ns() - started) / 1000)
    return taken


def ratio(taken: dict[str, list[float]], column: str, to: str) -> str:
    if column not in taken or to not in taken:
        return "-"
    pairs = zip(taken[column], taken[to], strict=True)
    return f"{statistics.median(one / other for one, other in pairs):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, nargs="?", help="another checkout")
    parser.add_argument("--models", nargs="*", default=[], help="endpoints, such as mnist/vgg")
    parser.add_argument("--rounds", type=int, default=150)
    wanted = parser.parse_args()
    settings = Settings()
    root = settings.weights.parent
    endpoints = load_catalogue(settings).endpoints
    print("| endpoint | before, us | now, us | int8, us | now : before | int8 : now |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in wanted.models or endpoints:
        model = endpoints[name].find()
        image = model.card.input
        shape = (1, image.height, image.width, image.channels)
        picture = np.random.default_rng(0).random(shape, np.float32)
        taken = measured(networks(model, wanted.before, root), picture, wanted.rounds)
        columns = ("before", "now", "int8")
        medians = [f"{statistics.median(taken[c]):,.0f}" if c in taken else "-" for c in columns]
        ratios = ratio(taken, "now", "before"), ratio(taken, "int8", "now")
        print(f"| {name} | {' | '.join((*medians, *ratios))} |", flush=True)


if __name__ == "__main__":
    main()
