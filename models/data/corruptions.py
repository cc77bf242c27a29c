"""Fifteen corruptions of images, to measure how robust a network is.

The kinds follow Hendrycks and Dietterich (ICLR 2019, arXiv 1903.12261) and Mu and Gilmer (arXiv
1906.02337). Arithmetic and strengths are our own, so results cannot be compared with those on their
data sets.

Each corruption takes images (N, height, width, channels), float32 in 0..1, a severity from 1 to 5
and a numpy generator, and returns images of the same shape. `corrupt` returns the same result for
the same images on every computer. The exception is JPEG, which depends on Pillow.
"""

import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.data.augmentation.geometry import transformed
from models.data.augmentation.light import gaussian_blur
from models.data.augmentation.resolution import arrays, pictures, through_jpeg
from models.data.augmentation.types import Batch
from models.errors import MetaplasticError

SEVERITY = 3
Generator = np.random.Generator


class CorruptionError(MetaplasticError):
    """An unknown corruption or severity. The message lists the known ones."""


def corrupt(images: Batch, name: str, severity: int = SEVERITY) -> Batch:
    """Return `images` with the corruption `name`, float32 in 0..1.

    Raises CorruptionError for an unknown name or a severity outside 1..5.
    """
    if name not in CORRUPTIONS:
        raise CorruptionError(f"no corruption is called {name!r}; there are: {', '.join(NAMES)}")
    if severity not in range(1, 6):
        raise CorruptionError(f"severity: expected a whole number from 1 to 5, found {severity!r}")
    random = np.random.default_rng((zlib.crc32(name.encode()), severity))
    corrupted = CORRUPTIONS[name](images, severity, random)
    return np.clip(corrupted, 0, 1).astype(np.float32)


def gaussian_noise(images: Batch, severity: int, random: Generator) -> Batch:
    """Add Gaussian noise, as a camera does in the dark."""
    deviation = _of(severity, 0.06, 0.12, 0.18, 0.26, 0.38)
    return images + deviation * random.standard_normal(images.shape, np.float32)


def shot_noise(images: Batch, severity: int, random: Generator) -> Batch:
    """Add Poisson noise, as few photons cause it: lighter pixels get more."""
    photons = _of(severity, 60, 25, 12, 6, 3)
    return random.poisson(images * photons).astype(np.float32) / np.float32(photons)


def impulse_noise(images: Batch, severity: int, random: Generator) -> Batch:
    """Set some pixels to black or white."""
    drawn = random.random(images.shape[:3])[..., None]
    half = _of(severity, 0.03, 0.06, 0.09, 0.17, 0.27) / 2
    return np.where(drawn < half, 0, np.where(drawn > 1 - half, 1, images))


def defocus(images: Batch, severity: int, random: Generator) -> Batch:
    """Spread every point to a disc."""
    radius = _of(severity, 0.7, 1.0, 1.4, 1.9, 2.5)
    y, x = np.mgrid[-3:4, -3:4]
    disc = np.clip(radius + 0.5 - np.hypot(y, x), 0, 1)
    return _convolved(images, disc / disc.sum())


def gaussian(images: Batch, severity: int, random: Generator) -> Batch:
    """Blur by a Gaussian."""
    deviation = _of(severity, 0.5, 0.8, 1.1, 1.5, 2.0)
    return gaussian_blur(images, np.full(len(images), deviation))


def motion(images: Batch, severity: int, random: Generator) -> Batch:
    """Blur along a line, as if the camera moved. Each image has its own direction."""
    length = _of(severity, 2, 3, 4, 6, 8)
    angle, reach = random.uniform(0, np.pi, len(images)), 5
    # Extend the border, because a shift would otherwise bring in black pixels.
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    ones, blurred = np.ones(len(images)), np.zeros_like(padded)
    steps = np.linspace(-0.5, 0.5, 9)
    for step in steps:
        moved_y, moved_x = length * step * np.sin(angle), length * step * np.cos(angle)
        blurred += transformed(padded, 0 * ones, ones, ones, 0 * ones, moved_y, moved_x)
    return blurred[:, reach:-reach, reach:-reach] / np.float32(len(steps))


def zoom(images: Batch, severity: int, random: Generator) -> Batch:
    """Blur radially, as if the camera zoomed."""
    most, ones = _of(severity, 0.1, 0.17, 0.25, 0.35, 0.45), np.ones(len(images))
    scales = 1 + np.linspace(0, most, 8)
    zoomed = np.zeros_like(images)
    for scale in scales:
        zoomed += transformed(images, 0 * ones, scale * ones, scale * ones, 0 * ones)
    return zoomed / np.float32(len(scales))


def pixelate(images: Batch, severity: int, random: Generator) -> Batch:
    """Reduce the resolution: fewer pixels, each shown as a larger square."""
    share = _of(severity, 0.75, 0.6, 0.5, 0.4, 0.3)
    height, width = images.shape[1:3]
    small = round(width * share), round(height * share)  # Pillow's order
    return arrays(
        [
            picture.resize(small, Image.Resampling.BOX).resize(
                (width, height), Image.Resampling.NEAREST
            )
            for picture in pictures(images)
        ]
    )


def jpeg_blocks(images: Batch, severity: int, random: Generator) -> Batch:
    """Compress strongly as JPEG."""
    quality = int(_of(severity, 40, 25, 15, 10, 6))
    return arrays([through_jpeg(picture, quality) for picture in pictures(images)])


def bright(images: Batch, severity: int, random: Generator) -> Batch:
    """Increase the brightness."""
    lit: Batch = images + np.float32(_of(severity, 0.1, 0.2, 0.3, 0.4, 0.5))
    return lit


def flat(images: Batch, severity: int, random: Generator) -> Batch:
    """Reduce the contrast."""
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    flattened: Batch = mean + _of(severity, 0.6, 0.45, 0.3, 0.2, 0.12) * (images - mean)
    return flattened


def fog(images: Batch, severity: int, random: Generator) -> Batch:
    """Blend with light grey clouds of several sizes."""
    n, (height, width) = len(images), images.shape[1:3]
    clouds = np.zeros((n, height, width, 1), np.float32)
    for cells in (2, 4, 8):
        coarse = random.random((n, cells + 1, cells + 1, 1), np.float32) / np.float32(cells)
        clouds += _enlarged(coarse, height, width)
    clouds -= clouds.min(axis=(1, 2), keepdims=True)
    clouds /= clouds.max(axis=(1, 2), keepdims=True)
    density = _of(severity, 0.2, 0.35, 0.5, 0.6, 0.7) * (0.5 + 0.5 * clouds)
    veiled: Batch = images * (1 - density) + density * np.float32(0.85)
    return veiled


def stripes(images: Batch, severity: int, random: Generator) -> Batch:
    """Invert bands, which are either all vertical or all horizontal."""
    n, (height, width) = len(images), images.shape[1:3]
    thick, period = _of(severity, 1, 1, 2, 3, 4), 14 if severity == 1 else 9
    start = random.integers(0, period, n)[:, None]
    place = (np.arange(max(height, width))[None] + start) % period < thick
    upright = (random.random(n) < 0.5)[:, None, None]
    struck = np.where(upright, place[:, None, :width], place[:, :height, None])
    return np.where(struck[..., None], 1 - images, images)


def dotted_line(images: Batch, severity: int, random: Generator) -> Batch:
    """Draw lines of black or white dots across the image."""
    dotted = images.copy()
    for image in dotted:
        for _ in range(int(_of(severity, 1, 1, 2, 3, 4))):
            _draw_dots(image, random)
    return dotted


def spatter(images: Batch, severity: int, random: Generator) -> Batch:
    """Cover parts with grey drops, like mud on the lens."""
    n, (height, width) = len(images), images.shape[1:3]
    drops = gaussian_blur(
        random.standard_normal((n, height, width, 1), np.float32), np.full(n, 1.2)
    )
    share = _of(severity, 0.02, 0.05, 0.09, 0.14, 0.2)
    edge = np.quantile(drops, 1 - share, axis=(1, 2), keepdims=True)
    covered = np.clip((drops - edge) * 12, 0, 1)
    spattered: Batch = images * (1 - covered) + covered * np.float32(0.45)
    return spattered


CORRUPTIONS: dict[str, Callable[[Batch, int, Generator], Batch]] = {
    "gaussian noise": gaussian_noise,
    "shot noise": shot_noise,
    "impulse noise": impulse_noise,
    "defocus": defocus,
    "gaussian blur": gaussian,
    "motion blur": motion,
    "zoom blur": zoom,
    "pixelate": pixelate,
    "jpeg": jpeg_blocks,
    "brightness": bright,
    "contrast": flat,
    "fog": fog,
    "stripes": stripes,
    "dotted lines": dotted_line,
    "spatter": spatter,
}
NAMES = tuple(CORRUPTIONS)


def _of(severity: int, *values: float) -> float:
    """Return the value for a severity. The first one is for severity 1."""
    return values[severity - 1]


def _convolved(images: Batch, kernel: npt.NDArray[np.float64]) -> Batch:
    """Convolve each channel with a square kernel of odd size."""
    reach, (height, width) = len(kernel) // 2, images.shape[1:3]
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    total = np.zeros_like(images)
    for (down, across), weight in np.ndenumerate(kernel):
        total += np.float32(weight) * padded[:, down : down + height, across : across + width]
    return total


def _enlarged(coarse: Batch, height: int, width: int) -> Batch:
    """Enlarge grids (N, rows, columns, 1) bilinearly to (N, height, width, 1)."""
    rows, columns = coarse.shape[1:3]
    y, x = np.linspace(0, rows - 1, height), np.linspace(0, columns - 1, width)
    top = np.minimum(y.astype(int), rows - 2)
    left = np.minimum(x.astype(int), columns - 2)
    down = (y - top).astype(np.float32)[None, :, None, None]
    right = (x - left).astype(np.float32)[None, None, :, None]
    upper = coarse[:, top] * (1 - down) + coarse[:, top + 1] * down
    enlarged: Batch = upper[:, :, left] * (1 - right) + upper[:, :, left + 1] * right
    return enlarged


def _draw_dots(image: Batch, random: Generator) -> None:
    """Draw a line of dots, two pixels apart, between opposite sides of one image, in place."""
    height, width = image.shape[:2]
    down = random.random() < 0.5
    length, across = (height, width) if down else (width, height)
    start, end = random.uniform(0, across - 1, 2)
    value = np.float32(random.random() < 0.5)
    for place in range(0, length, 2):
        beside = round(start + (end - start) * place / (length - 1))
        image[(place, beside) if down else (beside, place)] = value
