"""The model card: what a published model is, and the only type that `models` and `app` share.

A model is a folder with `card.json` beside `model.keras` and `model.onnx`. This module reads and
writes the card. It is pure Python, so that the service can import it without Keras or numpy.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from models.errors import MetaplasticError
from models.files import write_whole
from models.parsing import ParseError, parse

CARD = "card.json"
KERAS_MODEL = "model.keras"
ONNX_MODEL = "model.onnx"

Style = Literal["digit", "garment", "photo"]

# The first of these that an endpoint has is its default where no card claims to be.
RULES = ("metaplastic", "brainprop", "backprop")


class CardError(MetaplasticError):
    """A card that cannot be read: names the file, the field, and what was expected there."""


@dataclass(frozen=True)
class ImageInput:
    """What the network takes: float32 (N, height, width, channels), values in 0..1."""

    height: int
    width: int
    channels: int
    style: Style  # how pictures of this kind are prepared: see app/images.py
    mean: tuple[float, ...]  # per channel; the normalisation is a layer inside the model
    std: tuple[float, ...]


@dataclass(frozen=True)
class Calibration:
    """Fitted on the validation split: what the network's outputs (N, classes) mean."""

    temperature: float  # probabilities are softmax(outputs / temperature)
    ece_before: float  # expected calibration error, 15 bins, at temperature 1
    ece_after: float
    energy_threshold: float  # an energy score below this: unlike the training data
    energy_temperature: float = 1.0  # the score is T * logsumexp(outputs / T) at this T
    outputs: str = "logits"  # what the rule makes of them: "reward estimates" after brainprop
    least_contrast: float = 0.0  # an image of less (models/contrast.py): unlike the training data


@dataclass(frozen=True)
class Scores:
    """How well a model classifies one split of its data set. Accuracies are in 0..1."""

    images: int
    accuracy: float
    interval: tuple[float, float]  # 95 %, Wilson
    per_class: tuple[float, ...]  # share of each true class that was recognised
    confusion: tuple[tuple[int, ...], ...]  # [true class][predicted class]


@dataclass(frozen=True)
class Control:
    """A twin: same network, seed, data order and recipe but for the rule, or for the teachers."""

    rule: str
    seed: int
    validation_accuracy: float
    test_accuracy: float
    test_interval: tuple[float, float]


@dataclass(frozen=True)
class Teacher:
    """A model whose soft answers another one learned from."""

    name: str
    version: int
    sha256: str  # of its model.keras
    validation_accuracy: float
    test_accuracy: float | None


@dataclass(frozen=True)
class Distillation:
    """What a network was taught by, and what the same training reaches without."""

    teachers: tuple[Teacher, ...]
    without: Control | None = None  # the same rule and recipe but for the teachers


@dataclass(frozen=True)
class Corrupted:
    """How a model does on test images that were spoilt on purpose: models/corruptions.py."""

    severity: int  # 1 to 5
    images: int  # of each corruption
    accuracy: float  # mean over the corruptions
    by_corruption: Mapping[str, float]  # name -> accuracy
    # How well the energy score tells wrong answers from right ones on all of these images: the
    # chance that a wrong one has the lower score. 0.5 is by luck, 1 without fault; None where all
    # answers are right, or all wrong.
    wrong_auroc: float | None


@dataclass(frozen=True)
class Training:
    """Where the weights come from, in enough detail to make them again."""

    command: str
    recipe: Mapping[str, Any]
    seed: int
    epochs: int
    best_epoch: int  # counted from 1; the weights kept
    seconds: float
    hardware: str
    backend: str
    data_sha256: str
    finished: str  # ISO 8601, UTC


@dataclass(frozen=True)
class Card:
    """Everything that the service knows about a model."""

    dataset: str
    architecture: str
    rule: str
    version: int
    default: bool  # the rule that its endpoint uses when none is asked for
    labels: tuple[str, ...]
    input: ImageInput
    parameters: int
    multiply_adds: int  # for one image
    calibration: Calibration
    validation: Scores
    test: Scores | None  # None until the model is published
    control: Control | None
    training: Training
    files: Mapping[str, str]  # name in the model's folder -> SHA-256 of its bytes
    distillation: Distillation | None = None  # None: it learned from the labels alone
    corrupted: Corrupted | None = None  # None: not measured

    @property
    def endpoint(self) -> str:
        """`<dataset>/<architecture>`, as in the service's URLs."""
        return f"{self.dataset}/{self.architecture}"

    @property
    def name(self) -> str:
        """`<dataset>-<architecture>-<rule>`, the model's name in logs and standard protocols."""
        return f"{self.dataset}-{self.architecture}-{self.rule}"


def read_card(folder: Path) -> Card:
    """The card of the model in `folder`.

    Raises CardError where the file is missing, is not JSON, or a field is missing or of the
    wrong type. Fields that this version does not know are ignored.
    """
    path = folder / CARD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CardError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise CardError(f"{path}: is not JSON in UTF-8 ({error})") from error
    try:
        return parse(Card, content, str(path))
    except ParseError as error:
        raise CardError(str(error)) from error


def write_card(folder: Path, card: Card) -> None:
    """Write `card` into `folder`; a reader sees the old card or the new one, never a part."""
    text = json.dumps(asdict(card), indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(folder / CARD, _join_number_lists(text) + "\n")


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of both model files in `folder`."""
    return {name: checksum(folder / name) for name in (KERAS_MODEL, ONNX_MODEL)}


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def model_folders(root: Path) -> Iterator[Path]:
    """Each folder at or below `root` that holds a card, in the order of their paths.

    `root` is a shelf (`<dataset>/<architecture>/<rule>/<version>/`) or any part of one, a
    folder of runs, or one run. Hidden folders are not entered: that is where half-made models
    live, and vanish from.
    """
    for folder, below, files in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        if CARD in files:
            yield Path(folder)


def find_models(root: Path) -> Iterator[tuple[Path, Card]]:
    """Each of `model_folders` with its card. Raises CardError for one that cannot be read."""
    for folder in model_folders(root):
        yield folder, read_card(folder)


def _join_number_lists(text: str) -> str:
    """Put a list of numbers on one line, so that a confusion matrix reads as a table."""
    lines: list[str] = []
    inside = False
    for line in text.split("\n"):
        item = line.strip()
        if inside and (item in ("]", "],") or _is_number(item.rstrip(","))):
            separator = "" if lines[-1].endswith("[") or item.startswith("]") else " "
            lines[-1] += separator + item
            inside = not item.startswith("]")
        else:
            inside = line.endswith("[")
            lines.append(line)
    return "\n".join(lines)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
