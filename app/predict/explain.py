"""Explanations: which parts of a picture support a class, and how much.

The method is occlusion (Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks",
ECCV 2014): one patch of the picture after another is hidden, and the loss of evidence for the class
is measured. It only runs the network, so it works for every model. Evidence is measured as log-odds
in bits, the "weight of evidence" of Robnik-Sikonja & Kononenko (2008), since a probability of
0.9999 hardly changes with any patch.
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
from app.predict.inference import check_numbers, interpret
from app.settings import Settings
from models.cards import Calibration, ImageInput

Floats = NDArray[np.float64]
Patch = tuple[tuple[slice, slice], Floats]  # rows and columns, and the weight of each pixel

# A patch is twice as wide as its step, so every pixel is hidden four times. The fine step is a
# fourteenth of a side, and the coarse one is twice that, so every picture costs the same.
STEPS_A_SIDE = 14
SCALES = (1, 2)
MOST_EVALUATIONS = 1 + sum((STEPS_A_SIDE // scale + 1) ** 2 for scale in SCALES)

_LARGEST_EVIDENCE = 1000.0  # bits; replaces infinity, so that differences are numbers
_OVERLAY_SIDE = 280  # the longer side of an overlay in pixels, approximately
# RGB, 0..255. People with any kind of colour blindness can tell orange from blue. The scripts of
# the demonstration get these colours with their page.
COLOURS = {"for": (255, 140, 26), "against": (64, 156, 255)}


class Explanation(TypedDict):
    """The evidence for one class in one image."""

    model: str
    rule: str
    version: int
    label: str  # the class that is explained
    index: int
    probability: float  # of that class, 0..1, six decimals
    preprocessing: list[str]
    method: str
    unit: str
    evaluations: int  # runs of the network: one on the whole image, and one for each patch
    heat: list[list[float]]  # (height, width): bits lost if the pixel is hidden, three decimals
    prepared: str  # PNG in base64: the image that the network received
    warnings: NotRequired[list[str]]  # reasons to doubt the answer


@dataclass(frozen=True)
class ExplainedImage:
    """An explanation, with the arrays that it was made from."""

    answer: Explanation
    pixels: NDArray[np.float32]  # (height, width, channels) in 0..1, the network's input
    heat: Floats  # (height, width), bits


def explain(
    model: Model, upload: Upload, settings: Settings, *, label: str | None = None, raw: bool = False
) -> ExplainedImage:
    """Return the evidence in `upload` for the class `label`, by default the most probable one.

    Raises RequestError for an image that cannot be used, 404 `unknown_label`, and 503
    `explanation_too_slow` if the network needs more than `settings.max_seconds`.
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
    check_numbers(heat)
    answer: Explanation = {
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
    return ExplainedImage(answer, pixels, heat)


def heat_map(
    network: Network,
    pixels: NDArray[np.float32],
    whole: float,
    index: int,
    target: ImageInput,
    calibration: Calibration | None,
    deadline: float,
) -> tuple[Floats, int]:
    """Return the bits of evidence for class `index` that are lost if each pixel is hidden.

    `whole` is the evidence of the whole picture in bits. The heat, (height, width), is interpolated
    between the patches, and it is the mean of the scales; a negative value opposes the class. The
    second value is the number of patches. A network for which the fine patches would take too long
    is asked about the coarse ones alone. Raises RequestError 503 after `deadline` (time.monotonic).
    """
    fill = _fill(target)
    heats, count, began = [], 0, time.monotonic()
    for scale in sorted(SCALES, reverse=True):  # the coarse patches are fewer
        patches = _patches(pixels.shape[0], pixels.shape[1], scale)
        now = time.monotonic()
        if count and now + len(patches) * (now - began) / count > deadline:
            break
        lost, covered = np.zeros(pixels.shape[:2]), np.zeros(pixels.shape[:2])
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
        heats.append(lost / covered / len(SCALES))
        count += len(patches)
    heat: Floats = np.add.reduce(heats) * (len(SCALES) / len(heats))
    return heat, count


def evidence(logits: NDArray[np.float32], index: int, calibration: Calibration | None) -> Floats:
    """Return the calibrated log-odds (N,) in bits of class `index`, given `logits` (N, C)."""
    scaled = logits.astype(np.float64) / (calibration.temperature if calibration else 1.0)
    others = np.logaddexp.reduce(np.delete(scaled, index, axis=1), axis=1)
    bits = (scaled[:, index] - others) / np.log(2)
    limited: Floats = np.clip(bits, -_LARGEST_EVIDENCE, _LARGEST_EVIDENCE)
    return limited


def overlay(explanation: ExplainedImage) -> bytes:
    """Return a PNG of the network's input: orange parts support the class, blue parts oppose it."""
    height, width = explanation.heat.shape
    size = (width * (factor := max(1, _OVERLAY_SIDE // max(height, width))), height * factor)
    picture = as_image(explanation.pixels).convert("RGB").resize(size, Image.Resampling.NEAREST)
    most = float(np.abs(explanation.heat).max()) or 1.0  # 1 if all values are 0
    smooth = Image.fromarray((explanation.heat / most).astype(np.float32))
    strength = np.asarray(smooth.resize(size, Image.Resampling.BILINEAR))[..., None]
    colour = np.where(strength > 0, np.array(COLOURS["for"]), np.array(COLOURS["against"]))
    # The power makes weak evidence visible. static/demo/heat.js draws by the same formula.
    opacity = 0.85 * np.abs(strength) ** 0.7
    mixed = (1 - opacity) * (0.7 * np.asarray(picture)) + opacity * colour
    buffer = io.BytesIO()
    Image.fromarray((mixed + 0.5).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _fill(target: ImageInput) -> NDArray[np.float32]:
    """Return the colour of a hidden patch: black for digits and garments, the mean for photos."""
    if target.style == "photo":
        return np.array(target.mean, np.float32)
    return np.zeros(target.channels, np.float32)


def _patches(height: int, width: int, scale: int) -> list[Patch]:
    """Return the patches with their weights, which interpolate between the patches' centres.

    Patches at the edges extend beyond them, and are cut off there.
    """
    rows, columns = _intervals(height, scale), _intervals(width, scale)
    return [
        ((down, across), np.outer(tall, wide)) for down, tall in rows for across, wide in columns
    ]


def _intervals(side: int, scale: int) -> list[tuple[slice, Floats]]:
    """Return the patches along one side with their weights: 1 in the centre, 0 at the ends."""
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
        "The explanation takes longer than a request may last. Try again when the service is less "
        "busy, or choose a smaller network.",
    )
