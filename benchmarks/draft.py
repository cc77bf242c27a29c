"""Measure what decoding large JPEGs at a smaller size saves, and its effect on accuracy.

    METAPLASTIC_DATA=... python -m benchmarks.draft [--images 200]

Test digits of MNIST become 12-megapixel photographs: 4000x3000 pixels, dark ink on uneven paper
with grain, JPEG at quality 85. The model mnist/lenet classifies them as the service does, and once
more with all pixels decoded (OVERSIZE of app/images/decode.py out of reach).
"""

import argparse
import io
import os
import statistics
import time
from pathlib import Path

import numpy as np
from PIL import Image

from app.catalogue.load import load_catalogue
from app.images import decode as images
from app.predict.inference import infer
from app.settings import Settings

SIZE = (4000, 3000)


def table() -> Image.Image:
    """Return a picture of paper: unevenly lit, with the grain of a sensor."""
    lamp = Image.linear_gradient("L").resize(SIZE).point(lambda level: 200 + level // 8)
    return Image.blend(lamp, Image.effect_noise(SIZE, 12), 0.08)


def photograph(paper: Image.Image, digit: np.ndarray, chance: np.random.Generator) -> bytes:
    """Return a JPEG with the 28x28 digit drawn large at a random place on the paper."""
    side = int(chance.integers(1200, 2200))
    ink = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    left, top = int(chance.integers(300, 4000 - side)), int(chance.integers(100, 3000 - side))
    picture = paper.copy()
    picture.paste(40, (left, top), ink)
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    wanted = parser.parse_args()
    if "METAPLASTIC_DATA" not in os.environ:
        raise SystemExit("METAPLASTIC_DATA must name a folder with mnist.npz")
    with np.load(Path(os.environ["METAPLASTIC_DATA"]) / "mnist.npz") as data:
        digits, labels = data["x_test"][: wanted.images], data["y_test"][: wanted.images]
    model = load_catalogue(Settings()).endpoints["mnist/lenet"].find()
    target, chance, paper = model.card.input, np.random.default_rng(0), table()
    oversizes = {"smaller": images.OVERSIZE, "all pixels": 10_000}
    seconds: dict[str, list[float]] = {name: [] for name in oversizes}
    said: dict[str, list[int]] = {name: [] for name in oversizes}
    for digit in digits:
        jpeg = photograph(paper, digit.reshape(28, 28), chance)
        for name, oversize in oversizes.items():
            images.OVERSIZE = oversize
            started = time.thread_time()
            picture = images.decode(
                jpeg, max_pixels=50_000_000, smallest=(target.height, target.width)
            )
            seconds[name].append(time.thread_time() - started)
            pixels = images.prepare(picture, target).first.pixels[None]
            outcome = infer(model.network, pixels, model.card.calibration)
            said[name].append(int(outcome.probabilities[0].argmax()))
    for name in oversizes:
        right = np.mean(np.array(said[name]) == labels)
        print(
            f"{name:10} {1000 * statistics.median(seconds[name]):6.1f} ms to decode, "
            f"{right:.1%} of {len(labels)} right"
        )
    differ = sum(a != b for a, b in zip(*said.values(), strict=True))
    print(f"{differ} of {len(labels)} have different answers")


if __name__ == "__main__":
    main()
