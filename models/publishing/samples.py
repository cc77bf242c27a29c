"""A few validation pictures beside a published model, for Swagger and the demo to show."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from models.cards import SAMPLE_IMAGES, Card
from models.data.datasets import Arrays

_MOST = 5  # classes, drawn evenly; a picture of each


def write_samples(folder: Path, card: Card, arrays: Arrays) -> None:
    """Write the first validation picture of up to _MOST classes into `folder`, as PNG files.

    They are named after their classes, and the first ones of the split whatever the model answers.
    """
    images, labels = arrays.split(card.need_training().recipe["validation"])[1]
    there = np.unique(labels)
    chosen = there[np.unique(np.linspace(0, len(there) - 1, _MOST).round().astype(int))]
    (folder / SAMPLE_IMAGES).mkdir()
    for number in chosen:
        place = int(np.flatnonzero(labels == number)[0])
        name = re.sub("[^a-z0-9]+", "-", card.labels[number].lower()).strip("-") or "class"
        target = folder / SAMPLE_IMAGES / f"{name}.png"
        if target.exists():
            target = target.with_name(f"{name}-{number}.png")
        Image.fromarray(images[place].squeeze()).save(target)
