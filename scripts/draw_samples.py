"""Draw the sample images of the service: `python -m scripts.draw_samples [folder]`.

They show what people send: handwriting in dark ink on white paper, garments as shops show them, and
small colour pictures. They are painted from the tables in `scripts/samples`. They use no image of a
data set, no font and no picture of others. The result is always the same.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from scripts.samples import animals, garments, objects, vehicles
from scripts.samples.digits import WORDS, draw_mnist_sample
from scripts.samples.garments import draw_garment
from scripts.samples.photos import draw_photo

SAMPLES = Path(__file__).parent.parent / "app" / "static" / "samples"


class Sample(NamedTuple):
    """A picture and the right label for it."""

    label: str
    draw: Callable[[], Image.Image]


# Data set -> names of the pictures -> their labels and how to draw them.
TABLES = {
    "mnist": {
        word: Sample(str(digit), partial(draw_mnist_sample, digit))
        for digit, word in enumerate(WORDS)
    },
    "fashion-mnist": {
        "ankle-boot": Sample("Ankle boot", partial(draw_garment, garments.ANKLE_BOOT)),
        "bag": Sample("Bag", partial(draw_garment, garments.BAG)),
        "dress": Sample("Dress", partial(draw_garment, garments.DRESS)),
        "sneaker": Sample("Sneaker", partial(draw_garment, garments.SNEAKER)),
        "t-shirt": Sample("T-shirt/top", partial(draw_garment, garments.T_SHIRT)),
        "trouser": Sample("Trouser", partial(draw_garment, garments.TROUSER)),
    },
    "cifar10": {
        "airplane": Sample("airplane", partial(draw_photo, vehicles.AIRPLANE)),
        "automobile": Sample("automobile", partial(draw_photo, vehicles.AUTOMOBILE)),
        "cat": Sample("cat", partial(draw_photo, animals.CAT)),
        "frog": Sample("frog", partial(draw_photo, animals.FROG)),
        "horse": Sample("horse", partial(draw_photo, animals.HORSE)),
        "ship": Sample("ship", partial(draw_photo, vehicles.SHIP)),
        "truck": Sample("truck", partial(draw_photo, vehicles.TRUCK)),
    },
    "cifar100": {
        "apple": Sample("apple", partial(draw_photo, objects.APPLE)),
        "bottle": Sample("bottle", partial(draw_photo, objects.BOTTLE)),
        "clock": Sample("clock", partial(draw_photo, objects.CLOCK)),
        "mountain": Sample("mountain", partial(draw_photo, objects.MOUNTAIN)),
        "orange": Sample("orange", partial(draw_photo, objects.ORANGE)),
        "rocket": Sample("rocket", partial(draw_photo, objects.ROCKET)),
        "sunflower": Sample("sunflower", partial(draw_photo, objects.SUNFLOWER)),
    },
}


def main() -> None:
    """Draw all samples to `<folder>/<dataset>/<name>.png`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=SAMPLES)
    folder = parser.parse_args().folder
    for dataset, table in TABLES.items():
        (folder / dataset).mkdir(parents=True, exist_ok=True)
        for name, sample in table.items():
            sample.draw().save(folder / dataset / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
