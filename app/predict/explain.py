"""Why a network answers as it does: which parts of the picture speak for a class, and how much.

Occlusion (Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014):
hide one patch of the picture after the other and see how much of the evidence for the class goes
with it. The network is asked only as a function, so that this works for every model. Evidence is
counted as log-odds in bits, the "weight of evidence" of Robnik-Sikonja & Kononenko (2008), since
a probability of 0.9999 hardly moves whatever is hidden.
"""

import io
import time
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.catalogue.catalogue import Model
from app.catalogue.network import BATCH, Network
from app.errors import RequestError
from app.images.png import as_image, png_text
from app.images.upload import Upload
from app.predict.classify import recognise_each, warnings_of
from app.predict.inference import interpret
from app.settings import Settings
from models.cards import Calibration, ImageInput

Floats = NDArray[np.float64]
Patch = tuple[tuple[slice, slice], Floats]  # its rows and columns, and the weight of each pixel

# A patch is twice as wide as its step, so that every pixel is hidden four times; the fine step is
# a fourteenth of a side, the coarse one twice that. Any picture thereby costs the same.
STEPS_A_SIDE = 14
SCALES = (1, 2)
MOST_EVALUATIONS = 1 + sum((STEPS_A_SIDE // scale + 1) ** 2 for scale in SCALES)

_LARGEST_EVIDENCE = 1000.0  # bits: what is left of infinity, so that differences are numbers
_OVERLAY_SIDE = 280  # pixels, about
_FOR, _AGAINST = (255, 140, 26), (64, 156, 255)  # orange and blue: told apart by everybody


class Answer(TypedDict):
    """What speaks for one class in one image."""

    model: str
    rule: str
    version: int
    label: str  # the class that is explained
    index: int
    probability: float  # of that class, 0..1, six decimals
    preprocessing: list[str]
    method: str
    unit: str
    evaluations: int  # how often the network was asked: about the whole, and each patch hidden
    heat: list[list[float]]  # (height, width): bits that go where this is hidden, three decimals
    prepared: str  # PNG in base64: the image that the network saw
    warnings: NotRequired[list[str]]  # what makes the answer doubtful


@dataclass(frozen=True)
class Explanation:
    """An explained image: the answer, and the arrays behind it."""

    answer: Answer
    pixels: NDArray[np.float32]  # (height, width, channels) in 0..1, as the network saw it
    heat: Floats  # (height, width), bits


def explain(
    model: Model, upload: Upload, settings: Settings, *, label: str | None = None, raw: bool = False
) -> Explanation:
    """What in `upload` speaks for the class `label` (by default the most probable) to `model`.

    Raises RequestError for an image that cannot be used, 404 `unknown_label`, and 503
    `explanation_too_slow` where the network needs more than `settings.max_seconds`.
    """
    card = model.card
    (seen,) = recognise_each(model, [upload], settings, raw=raw)
    pixels, steps = seen.reading.pixels, seen.reading.steps
    logits = model.network(pixels[None])
    probabilities = interpret(logits, model.calibration).probabilities[0]
    index = int(probabilities.argmax()) if label is None else _index(label, card.labels)
    deadline = time.monotonic() + settings.max_seconds
    whole = evidence(logits, index, model.calibration)[0]
    heat, hidden = heat_map(
        *(model.network, pixels, whole, index), card.input, model.calibration, deadline
    )
    answer: Answer = {
        "model": card.name,
        "rule": card.rule,
        "version": card.version,
        "label": card.labels[index],
        "index": index,
        "probability": round(float(probabilities[index]), 6),
        "preprocessing": list(steps),
        "method": "occlusion",
        "unit": "bits",
        "evaluations": 1 + hidden,
        "heat": [[round(float(value), 3) for value in row] for row in heat],
        "prepared": png_text(pixels),
    }
    if warnings := warnings_of(seen):
        answer["warnings"] = warnings
    return Explanation(answer, pixels, heat)


def heat_map(
    network: Network,
    pixels: NDArray[np.float32],
    whole: float,
    index: int,
    target: ImageInput,
    calibration: Calibration,
    deadline: float,
) -> tuple[Floats, int]:
    """Bits of evidence for class `index` that go where each pixel of `pixels` is hidden.

    `whole` is the evidence where nothing is hidden, in bits. The heat (height, width) is
    interpolated between the patches, and the mean of the scales; below 0 it speaks against the
    class. Also how many patches were tried. Raises RequestError 503 when `deadline`
    (time.monotonic) passes.
    """
    fill = _fill(target)
    heat, count = np.zeros(pixels.shape[:2]), 0
    for scale in SCALES:
        patches = _patches(pixels.shape[0], pixels.shape[1], scale)
        lost, covered = np.zeros_like(heat), np.zeros_like(heat)
        for start in range(0, len(patches), BATCH):
            if time.monotonic() > deadline:
                raise _too_slow()
            some = patches[start : start + BATCH]
            hidden = np.repeat(pixels[None], len(some), axis=0)
            for image, (where, _) in zip(hidden, some, strict=True):
                image[where] = fill
            left = evidence(network(hidden), index, calibration)
            for (where, tent), value in zip(some, left, strict=True):
                lost[where] += tent * (whole - value)
                covered[where] += tent
        heat += lost / covered / len(SCALES)
        count += len(patches)
    return heat, count


def evidence(logits: NDArray[np.float32], index: int, calibration: Calibration) -> Floats:
    """The calibrated log-odds in bits (N,) of class `index` against all others; logits (N, C)."""
    scaled = logits.astype(np.float64) / calibration.temperature
    others = np.logaddexp.reduce(np.delete(scaled, index, axis=1), axis=1)
    bits = (scaled[:, index] - others) / np.log(2)
    limited: Floats = np.clip(bits, -_LARGEST_EVIDENCE, _LARGEST_EVIDENCE)
    return limited


def overlay(explanation: Explanation) -> bytes:
    """A PNG of the image that the network saw: orange speaks for the class, blue against it."""
    height, width = explanation.heat.shape
    size = (width * (factor := max(1, _OVERLAY_SIDE // max(height, width))), height * factor)
    picture = as_image(explanation.pixels).convert("RGB").resize(size, Image.Resampling.NEAREST)
    most = float(np.abs(explanation.heat).max()) or 1.0
    smooth = Image.fromarray((explanation.heat / most).astype(np.float32))
    strength = np.asarray(smooth.resize(size, Image.Resampling.BILINEAR))[..., None]
    colour = np.where(strength > 0, np.array(_FOR), np.array(_AGAINST))
    opacity = 0.85 * np.abs(strength) ** 0.7
    mixed = (1 - opacity) * (0.7 * np.asarray(picture)) + opacity * colour
    buffer = io.BytesIO()
    Image.fromarray((mixed + 0.5).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _fill(target: ImageInput) -> NDArray[np.float32]:
    """What "nothing there" looks like: the paper of digits and garments, the mean of photos."""
    if target.style == "photo":
        return np.array(target.mean, np.float32)
    return np.zeros(target.channels, np.float32)


def _patches(height: int, width: int, scale: int) -> list[Patch]:
    """Where each patch lies, and its tent: together they interpolate between the patches' middles.

    Those at the edges reach beyond them, and are cut off there.
    """
    rows, columns = _intervals(height, scale), _intervals(width, scale)
    return [
        ((down, across), np.outer(tall, wide)) for down, tall in rows for across, wide in columns
    ]


def _intervals(side: int, scale: int) -> list[tuple[slice, Floats]]:
    """The patches along one side, each with its tent: 1 in its middle, 0 at its ends."""
    step = scale * -(-side // STEPS_A_SIDE)
    tent = 1 - np.abs(np.arange(2 * step) + 0.5 - step) / step
    starts = range(-step, side, step)
    return [
        (slice(max(0, start), start + 2 * step), tent[max(0, -start) : side - start])
        for start in starts
    ]


def _index(label: str, labels: tuple[str, ...]) -> int:
    if label not in labels:
        message = f"There is no class {label[:40]!r}; there are: {', '.join(labels)}."
        raise RequestError(404, "unknown_label", message, labels=list(labels))
    return labels.index(label)


def _too_slow() -> RequestError:
    return RequestError(
        503,
        "explanation_too_slow",
        "The network takes longer over an explanation than a request may last. Try again when the "
        "service has less to do, or ask a smaller network.",
    )
