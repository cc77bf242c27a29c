"""The model card, the description of a model that `models` and `app` share.

A model is a folder with `card.json`, `model.keras` and `model.onnx`, and with `model.int8.onnx` if
it is published in 8-bit integers too. This module reads and writes the card. It is pure Python, so
that the service can import it without Keras or numpy.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from models.errors import MetaplasticError
from models.files import read_regular, write_whole
from models.parsing import ParseError, parse

CARD = "card.json"
KERAS_MODEL = "model.keras"
ONNX_MODEL = "model.onnx"
INT8_MODEL = "model.int8.onnx"  # the same network in 8-bit integers
SAMPLE_IMAGES = "samples"  # a folder of PNG files, where the model shows what it is asked about

Style = Literal["digit", "garment", "photo"]
# How a photograph gets the network's proportions: see `photo` in models/pictures.py.
Resize = Literal["fit", "crop", "pad", "stretch"]

# If no card of an endpoint is its default, the first of these rules that it has is.
RULES = ("metaplastic", "brainprop", "backprop")
IMPORTED = "imported"  # in place of a rule: the network was trained elsewhere
COMPARE = "compare"  # no architecture's name: /api/<dataset>/compare asks all of a data set's

_NAME = re.compile("[a-z0-9]+(-[a-z0-9]+)*")  # names for URLs, folders and the standard protocols
T = TypeVar("T")

MOST_SIDE = 1024  # pixels on a side of the input; the networks trained here have up to 64
MOST_VERSION = 10**9
_MOST_DEPTH = 16  # levels of nesting in a card; a recipe needs a few


class CardError(MetaplasticError):
    """A card that cannot be used. The message names file, field and what was expected."""


@dataclass(frozen=True)
class ImageInput:
    """The input of the network: float32 (N, height, width, channels), values in 0..1."""

    height: int
    width: int
    channels: int
    style: Style  # how pictures of this kind are prepared: see app/images/decode.py
    mean: tuple[float, ...]  # per channel; the normalisation is a layer of the model
    std: tuple[float, ...]
    resize: Resize = "fit"  # how a photograph gets these proportions


@dataclass(frozen=True)
class Calibration:
    """The meaning of the network's outputs (N, classes), fitted on the validation split."""

    temperature: float  # probabilities are softmax(outputs / temperature)
    ece_before: float  # expected calibration error, 15 bins, at temperature 1
    ece_after: float
    energy_threshold: float  # an image with a lower energy score is unlike the training data
    energy_temperature: float = 1.0  # the score is T * logsumexp(outputs / T) at this T
    outputs: str = "logits"  # their meaning; "reward estimates" after brainprop
    least_contrast: float = 0.0  # an image with less contrast is unlike the training data


@dataclass(frozen=True)
class Scores:
    """The results on one split of the data set. Accuracies are in 0..1."""

    images: int
    accuracy: float
    interval: tuple[float, float]  # 95 %, Wilson
    per_class: tuple[float, ...]  # accuracy of each true class
    confusion: tuple[tuple[int, ...], ...]  # [true class][predicted class]


@dataclass(frozen=True)
class Int8:
    """What `model.int8.onnx` reaches, and its own calibration. Accuracies are in 0..1."""

    calibration: Calibration
    validation_accuracy: float
    test_accuracy: float | None  # None until the model is published
    test_interval: tuple[float, float] | None  # 95 %, Wilson
    changed: float  # share of the test (else validation) images that `model.onnx` answers otherwise


@dataclass(frozen=True)
class Baseline:
    """The same training except for one thing: by backprop, or without teachers.

    Network, seed, order of the data and the rest of the recipe are the same.
    """

    rule: str
    seed: int
    validation_accuracy: float
    test_accuracy: float
    test_interval: tuple[float, float]


@dataclass(frozen=True)
class Teacher:
    """A model whose soft labels another one learned from."""

    name: str
    version: int
    sha256: str  # of its model.keras
    validation_accuracy: float
    test_accuracy: float | None


@dataclass(frozen=True)
class Distillation:
    """The teachers of a network, and the result of the same training without them."""

    teachers: tuple[Teacher, ...]
    without: Baseline | None = None  # the same training without teachers


@dataclass(frozen=True)
class Corrupted:
    """The results on corrupted test images (models/data/corruptions.py)."""

    severity: int  # 1 to 5
    images: int  # for each corruption
    accuracy: float  # mean over the corruptions
    by_corruption: Mapping[str, float]  # name -> accuracy
    # How well the energy score separates wrong answers from right ones on all these images: the
    # probability that a wrong one has the lower score. 0.5 means chance, 1 means perfect. None if
    # all answers are right, or all are wrong.
    wrong_auroc: float | None


@dataclass(frozen=True)
class Training:
    """How the weights were made, in enough detail to repeat it."""

    command: str
    recipe: Mapping[str, Any]
    seed: int
    epochs: int
    best_epoch: int  # from 1; the epoch whose weights were kept
    seconds: float
    hardware: str
    backend: str
    data_sha256: str
    finished: str  # ISO 8601, UTC


@dataclass(frozen=True)
class Imported:
    """Where a network comes from that was trained elsewhere."""

    file: str  # the name of the file or folder that was imported
    format: str  # "ONNX opset 17", "Keras", "HDF5", "SavedModel"
    producer: str  # the program that wrote the file, as the file says; "" if it does not
    bytes: int  # of all its files
    sha256: str  # of the file; of several, of their names and checksums
    command: str  # repeats the import
    # What the network takes and gives: a pixel, 0 to 255, becomes (scale * pixel - mean) / std.
    layout: str  # NHWC or NCHW
    datatype: str  # of its input, such as float32
    scale: float
    outputs: str  # logits or probabilities
    milliseconds: float  # for one picture, on one thread, where it was imported
    finished: str  # ISO 8601, UTC


@dataclass(frozen=True)
class Learned:
    """What a challenger learned from: votes on the answers of the service, and the home term."""

    parent: int  # the published version that it started from
    parent_sha256: str  # of the parent's model.keras
    votes: int
    labels: int  # how many of the votes gave a label
    days: tuple[str, str]  # of the first and the last vote, ISO 8601, UTC
    home: str  # where the images of the home term come from; "none" without them
    settings: Mapping[str, Any]  # of models/learning/learner.py


@dataclass(frozen=True)
class Card:
    """Everything that the service knows about a model.

    A model that was imported has no training, and without labelled pictures neither calibration
    nor scores.
    """

    dataset: str
    architecture: str
    rule: str
    version: int
    default: bool  # whether the endpoint uses this rule when none is asked for
    labels: tuple[str, ...]
    input: ImageInput
    parameters: int
    multiply_adds: int  # for one image
    calibration: Calibration | None  # None: the outputs are the network's own
    validation: Scores | None
    test: Scores | None  # None until the model is published
    control: Baseline | None  # the baseline; the name of the field in earlier versions
    training: Training | None
    files: Mapping[str, str]  # name in the model's folder -> SHA-256 of its bytes
    distillation: Distillation | None = None  # None: it learned from labels alone
    corrupted: Corrupted | None = None  # None: not measured
    int8: Int8 | None = None  # None: there is no `model.int8.onnx`
    imported: Imported | None = None  # None: it was trained by this project
    learned: Learned | None = None  # None: a published version, which learned from no votes

    @property
    def endpoint(self) -> str:
        """Return `<dataset>/<architecture>`, as in the URLs of the service."""
        return f"{self.dataset}/{self.architecture}"

    @property
    def name(self) -> str:
        """Return `<dataset>-<architecture>-<rule>`, the name in logs and standard protocols."""
        return f"{self.dataset}-{self.architecture}-{self.rule}"

    def need_training(self) -> Training:
        """Return how it was trained. Raises CardError if it was imported."""
        return self._need(self.training, "training")

    def need_calibration(self) -> Calibration:
        """Return its calibration. Raises CardError if it was imported without one."""
        return self._need(self.calibration, "calibration")

    def need_validation(self) -> Scores:
        """Return its validation scores. Raises CardError if it was imported without any."""
        return self._need(self.validation, "scores")

    def _need(self, value: T | None, what: str) -> T:
        if value is None:
            raise CardError(
                f"{self.name} version {self.version} is imported: it has no {what}, which "
                "this needs"
            )
        return value


def is_name(word: str) -> bool:
    """Return whether `word` can be in a URL: lower-case letters and digits, joined by hyphens."""
    return bool(_NAME.fullmatch(word)) and len(word) <= 100


def read_card(folder: Path) -> Card:
    """Return the card of the model in `folder`.

    Raises CardError if the file is missing or not JSON, or if a field is missing, has the wrong
    type, or has a value that no model can have. Code that shows many models relies on this. Unknown
    fields are ignored.
    """
    path = folder / CARD
    try:
        content = json.loads(read_regular(path).decode("utf-8"))
    except OSError as error:
        raise CardError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise CardError(f"{path}: is not JSON in UTF-8 ({error})") from error
    for problem in _unusable(content):
        raise CardError(f"{path}: {problem}")
    try:
        card = parse(Card, content, str(path))
    except ParseError as error:
        raise CardError(str(error)) from error
    for problem in _impossible(card):
        raise CardError(f"{path}: {problem}")
    return card


def _unusable(value: Any, depth: int = 0) -> Iterator[str]:
    """Yield what JSON cannot represent again: infinite numbers, half characters, deep nesting."""
    if depth > _MOST_DEPTH:
        yield f"expected at most {_MOST_DEPTH} levels of nesting"
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"expected a finite number, found {value}"
    elif isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        yield f"expected text, found half a character in {value[:40]!a}"
    elif isinstance(value, list):
        for place, entry in enumerate(value):
            yield from (f"[{place}] {problem}" for problem in _unusable(entry, depth + 1))
    elif isinstance(value, dict):
        for name, entry in value.items():
            yield from _unusable(name, depth)
            yield from (f"{name}: {problem}" for problem in _unusable(entry, depth + 1))


def _impossible(card: Card) -> Iterator[str]:
    """Yield values of the right type that no model can have."""
    yield from _out_of_range("version", card.version, 0, MOST_VERSION)
    if not card.labels or not all(card.labels):
        yield "labels: expected a name for each class"
    image = card.input
    yield from _out_of_range("input: height", image.height, 1, MOST_SIDE)
    yield from _out_of_range("input: width", image.width, 1, MOST_SIDE)
    if image.channels not in (1, 3):
        yield f"input: channels: expected 1 or 3, found {image.channels}"
    for name, values in ("mean", image.mean), ("std", image.std):
        if len(values) != image.channels:
            yield f"input: {name}: expected {image.channels} entries, found {len(values)}"
    if (card.training is None) == (card.imported is None):
        yield "expected either training or imported"
    if card.imported is None:
        for name, value in ("calibration", card.calibration), ("validation", card.validation):
            if value is None:
                yield f"{name}: expected an object, since the model was trained here"
    if card.calibration:
        yield from (f"calibration: {problem}" for problem in _no_calibration(card.calibration))
    for name, scores in ("validation", card.validation), ("test", card.test):
        if scores:
            yield from (f"{name}: {problem}" for problem in _no_scores(scores, len(card.labels)))
    yield from _no_measures(card)


def _no_measures(card: Card) -> Iterator[str]:
    """Yield impossible values of the comparisons, the calibration and the corrupted images."""
    without = card.distillation.without if card.distillation else None
    for name, other in (("control", card.control), ("distillation: without", without)):
        if other is None:
            continue
        shares = (other.validation_accuracy, other.test_accuracy, *other.test_interval)
        if not all(0 <= share <= 1 for share in shares):
            yield f"{name}: expected shares from 0 to 1"
    if card.int8:
        problems = _no_calibration(card.int8.calibration)
        yield from (f"int8: calibration: {problem}" for problem in problems)
        tested = (card.int8.test_accuracy, *(card.int8.test_interval or ()))
        measured = (card.int8.validation_accuracy, card.int8.changed, *tested)
        if not all(0 <= share <= 1 for share in measured if share is not None):
            yield "int8: expected shares from 0 to 1"
    if found := card.corrupted:
        told = 0.0 if found.wrong_auroc is None else found.wrong_auroc
        by_name = found.by_corruption.values()
        numbers = all(type(share) in (int, float) for share in by_name)
        if not numbers or not all(0 <= share <= 1 for share in (found.accuracy, told, *by_name)):
            yield "corrupted: expected shares from 0 to 1"


def _no_calibration(calibration: Calibration) -> Iterator[str]:
    for name in ("temperature", "energy_temperature"):
        if getattr(calibration, name) <= 0:
            yield f"{name}: expected a number above 0"
    least = calibration.least_contrast
    if not 0 <= least <= 1:
        yield f"least_contrast: expected 0 to 1, found {least}"


def _no_scores(scores: Scores, classes: int) -> Iterator[str]:
    if not all(0 <= share <= 1 for share in (scores.accuracy, *scores.interval, *scores.per_class)):
        yield "expected shares from 0 to 1"
    if len(scores.per_class) != classes:
        yield f"per_class: expected {classes} entries, found {len(scores.per_class)}"
    if {classes} != {len(scores.confusion), *map(len, scores.confusion)}:
        yield f"confusion: expected {classes} rows of {classes} entries"


def _out_of_range(name: str, number: int, low: int, high: int) -> Iterator[str]:
    if not low <= number <= high:
        yield f"{name}: expected a whole number from {low} to {high}, found {number}"


def write_card(folder: Path, card: Card) -> None:
    """Write `card` to `folder` in one step. A reader sees the old or the new card."""
    text = json.dumps(asdict(card), indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(folder / CARD, _join_number_lists(text) + "\n")


def checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each model file that is in `folder`."""
    names = (KERAS_MODEL, ONNX_MODEL, INT8_MODEL)
    return {name: checksum(folder / name) for name in names if (folder / name).exists()}


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(read_regular(path)).hexdigest()


def model_folders(root: Path) -> Iterator[Path]:
    """Yield each folder at or below `root` that holds a card, in the order of their paths.

    `root` is a model repository (`<dataset>/<architecture>/<rule>/<version>/`) or a part of one, a
    folder of runs, or one run. Hidden folders are skipped, because they hold incomplete models that
    may disappear at any time.
    """
    for folder, below, files in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        if CARD in files:
            yield Path(folder)


def find_models(root: Path) -> Iterator[tuple[Path, Card]]:
    """Yield each of `model_folders` with its card. Raises CardError for an unusable card."""
    for folder in model_folders(root):
        yield folder, read_card(folder)


def _join_number_lists(text: str) -> str:
    """Put each list of numbers on one line, so that a confusion matrix looks like a table."""
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
