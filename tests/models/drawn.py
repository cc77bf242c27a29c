"""Pictures that are drawn for a test: shapes of any size, place and colour on light paper."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle")


def shape(kind: str, random: np.random.Generator) -> Image.Image:
    """A dark shape on light paper, 80 to 160 pixels a side."""
    width, height = (int(side) for side in random.integers(80, 161, 2))
    paper, ink = (tuple(map(int, random.integers(*ends, 3))) for ends in ((150, 256), (0, 120)))
    image = Image.new("RGB", (width, height), paper)
    draw = ImageDraw.Draw(image)
    half = int(random.uniform(0.2, 0.32) * min(width, height))
    x, y = int(random.uniform(0.42, 0.58) * width), int(random.uniform(0.42, 0.58) * height)
    if kind == "circle":
        draw.ellipse((x - half, y - half, x + half, y + half), fill=ink)
    elif kind == "square":
        draw.rectangle((x - half, y - half, x + half, y + half), fill=ink)
    else:
        draw.polygon([(x, y - half), (x - half, y + half), (x + half, y + half)], fill=ink)
    return image


def draw_shapes(root: Path, each: int, seed: int = 0) -> Path:
    """A folder with a folder for each of SHAPES and `each` pictures in it, PNG and JPEG."""
    random = np.random.default_rng(seed)
    for kind in SHAPES:
        (root / kind).mkdir(parents=True)
        for number in range(each):
            ending = "jpg" if number % 2 else "png"
            shape(kind, random).save(root / kind / f"{number:03}.{ending}")
    return root
