"""Import a network that was trained elsewhere, as a version in the model repository."""

import dataclasses
import errno
import hashlib
import io
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import onnx

from models.aliases import AliasError, read_aliases
from models.cards import (
    COMPARE,
    IMPORTED,
    ONNX_MODEL,
    Card,
    ImageInput,
    Imported,
    Resize,
    Style,
    checksum,
    checksums,
    is_name,
    read_card,
    write_card,
)
from models.files import read_regular
from models.packaging.conversion import KERAS, SAVED_MODEL, convert
from models.packaging.fitting import Fitting, doubts_about
from models.packaging.foreign import (
    ForeignError,
    Layout,
    Taken,
    count_parameters,
    input_of,
    opset_of,
    read_onnx,
)
from models.packaging.trial import look_at
from models.packaging.wrapping import Outputs, Scaling
from models.publishing.labelled import Labelled, measure
from models.publishing.versions import next_version
from models.scratch import scratch_folder
from models.terminal import printable

MOST_LABELS = 100_000
_MOST_OF_LABELS = 100 << 20  # bytes of their file
# What takes a pixel beyond these is a mistake: 32 bits cannot hold some of it.
_LEAST_SCALE, _MOST_SCALE = 1e-6, 1e6
_ONE_NUMBER = (
    ". One number for a question of yes and no is not enough: export it with one for each of the "
    "two classes, such as the probabilities 1 - p and p"
)
_MOST_OF_A_NAME = 200  # characters of a label, and of a program's name


@dataclass(frozen=True)
class Said:
    """What is said about a network, since its file does not say it."""

    labels: Path  # a text file, a line for each class
    scale: float | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    bgr: bool = False
    layout: Layout | None = None
    size: tuple[int, int] | None = None  # height, width
    channels: int | None = None
    outputs: Outputs | None = None
    style: Style = "photo"
    resize: Resize = "crop"
    calibrate: Path | None = None  # labelled pictures


@dataclass(frozen=True)
class Result:
    """A version that was imported, and what its user may want to know."""

    folder: Path
    card: Card
    notes: tuple[str, ...]


def import_model(name: str, model: Path, said: Said, repository: Path, command: str) -> Result:
    """Import the file or folder `model` as the newest version of `name`, DATASET/ARCHITECTURE.

    It may be an ONNX file, a Keras file (.keras, .h5) or the folder of a SavedModel. It is run on
    pictures before it becomes a version, which appears complete, by one rename. `command` repeats
    the import. Raises ForeignError or DataError, and then leaves the repository unchanged.
    """
    dataset, architecture = _names(name)
    _refuse_a_second_meaning(dataset, architecture, repository)
    labels = read_labels(said.labels)
    repository.mkdir(parents=True, exist_ok=True)
    with scratch_folder(repository, ".importing-") as scratch:
        source = _read(model, scratch)
        network = source.network
        taken = input_of(network, said.layout, said.size, said.channels)
        taken = dataclasses.replace(taken, bgr=said.bgr and taken.channels == 3)
        scaling = _scaling(taken, said)
        image = _image(taken, scaling, said)
        onnx.save(network, scratch / "original.onnx")
        look = look_at(scratch / "original.onnx", taken)
        if look.answers != len(labels):
            raise ForeignError(
                f"{model.name} gives {look.answers} numbers for a picture, and {said.labels} has "
                f"{len(labels)} lines; expected a line for each class, in the order of the outputs"
                + (_ONE_NUMBER if look.answers == 1 else "")
            )
        folder = scratch / "version"
        folder.mkdir()
        fitting = Fitting(network, taken, scaling, len(labels))
        trial, outputs = fitting.write(folder / ONNX_MODEL, said.outputs)
        found = Labelled(None, None, ())
        if said.calibrate is not None:
            found = measure(folder, said.calibrate, image, labels, scratch)
        card = Card(
            dataset=dataset,
            architecture=architecture,
            rule=IMPORTED,
            version=1,
            default=True,
            labels=labels,
            input=image,
            parameters=count_parameters(network),
            multiply_adds=look.multiply_adds,
            calibration=found.calibration,
            validation=found.scores,
            test=None,
            control=None,
            training=None,
            files=checksums(folder),
            imported=_origin(source, taken, scaling, command, outputs, trial.milliseconds),
        )
        place, card = _put(folder, card, repository)
    return Result(place, card, (*doubts_about(trial), *found.notes))


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the lines of a text file: the classes, in the order of the outputs.

    Raises ForeignError if a line is empty, repeated or no text.
    """
    try:
        if path.stat().st_size > _MOST_OF_LABELS:
            raise ForeignError(f"{path} has more than {_MOST_OF_LABELS >> 20} MiB: it is no list")
        text = read_regular(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ForeignError(f"{path} cannot be read as text in UTF-8 ({error})") from error
    # An accent may be a sign of its own or not: "é" shall be one class. Not splitlines(), for which
    # a form feed and others that no editor shows end a line, too.
    whole = unicodedata.normalize("NFC", text.rstrip())
    labels = [line.strip(" \t\n") for line in io.StringIO(whole, newline=None)]
    if not 2 <= len(labels) <= MOST_LABELS:
        raise ForeignError(
            f"{path}: expected a line for each class, 2 to {MOST_LABELS}; found {len(labels)}"
        )
    seen: dict[str, int] = {}
    for number, label in enumerate(labels, start=1):
        if not label or not label.isprintable() or len(label) > _MOST_OF_A_NAME:
            raise ForeignError(
                f"{path}, line {number}: expected the name of a class: {label[:40]!a}"
            )
        if seen.setdefault(label, number) != number:
            raise ForeignError(
                f"{path}, line {number} repeats line {seen[label]}, {label!r}; each class needs a "
                f"name of its own, such as {label + ' (2)'!r}"
            )
    return tuple(labels)


def _names(name: str) -> tuple[str, str]:
    dataset, _, architecture = name.partition("/")
    for word in (dataset, architecture):
        if not is_name(word):
            raise ForeignError(
                f"a model cannot be called {name!r}: expected NAME/ARCHITECTURE in lower-case "
                "letters and digits, joined by hyphens, such as birds/resnet-18"
            )
    if architecture == COMPARE:
        raise ForeignError(f"no architecture can be called {COMPARE!r}: the service has that name")
    return dataset, architecture


def _refuse_a_second_meaning(dataset: str, architecture: str, repository: Path) -> None:
    """Raise ForeignError if another endpoint has the name of this one.

    Logs, standard protocols and Swagger call both a-b/c and a/b-c by the name a-b-c.
    """
    name = f"{dataset}-{architecture}"
    for folder in repository.glob("*/*"):
        other = folder.parent.name, folder.name
        if "-".join(other) == name and other != (dataset, architecture):
            raise ForeignError(
                f"{'/'.join(other)} is in {repository}, and the standard protocols would call both "
                f"{name}; choose another name"
            )


def query_of(folder: Path, card: Card) -> str:
    """Return what a URL needs behind the endpoint so that the new version `folder` answers.

    It is "" where the version answers anyway: no other rule and no other champion is beside it.
    """
    versions = folder.parent
    beside = [path for path in versions.parent.iterdir() if path.is_dir() and path != versions]
    asked = [f"rule={card.rule}"] if any(not path.name.startswith(".") for path in beside) else []
    try:
        champion = read_aliases(versions).champion
    except AliasError:  # the newest published version answers then
        champion = None
    if champion not in (None, card.version):
        asked.append(f"version={card.version}")
    return "?" + "&".join(asked) if asked else ""


@dataclass(frozen=True)
class _Source:
    """A network as it came, in ONNX."""

    path: Path  # of the file or folder that is imported
    network: onnx.ModelProto
    format: str
    files: Mapping[str, Path]  # that it consists of, by their names in its folder

    def sha256(self) -> str:
        """Return the SHA-256 of its file, or of the names and checksums of several."""
        if list(self.files.values()) == [self.path]:
            return checksum(self.path)
        digest = hashlib.sha256()
        for name, path in self.files.items():
            digest.update(f"{name} {checksum(path)}\n".encode())
        return digest.hexdigest()


def _read(model: Path, scratch: Path) -> _Source:
    """Return a model as ONNX. Raises ForeignError for other formats."""
    if not model.exists():
        raise ForeignError(f"{model} does not exist")
    ending, converted = model.suffix.lower(), scratch / "converted.onnx"
    if ending == ".onnx" and model.is_file():
        network, beside = read_onnx(model)
        files = {model.name: model, **beside}
        return _Source(model, network, f"ONNX opset {opset_of(network)}", files)
    if ending in KERAS and model.is_file():
        convert(model, converted)
        name = "Keras" if ending == ".keras" else "HDF5"
        return _Source(model, read_onnx(converted)[0], name, {model.name: model})
    if (model / SAVED_MODEL).is_file():
        convert(model, converted)
        found = sorted(path for path in model.rglob("*") if path.is_file())
        files = {path.relative_to(model).as_posix(): path for path in found}
        return _Source(model, read_onnx(converted)[0], "SavedModel", files)
    raise ForeignError(
        f"{model}: expected an ONNX file (.onnx), a Keras file ({', '.join(KERAS)}) or the folder "
        f"of a SavedModel with {SAVED_MODEL} in it"
    )


def _scaling(taken: Taken, said: Said) -> Scaling | None:
    """Return what becomes of a pixel. Raises ForeignError if that is not said."""
    plain = said.scale is None and set(said.mean) == {0.0} and set(said.std) == {1.0}
    if taken.datatype == "uint8":
        if not plain:
            raise ForeignError(
                "it takes pixels from 0 to 255 as uint8; leave out --scale, --mean and --std"
            )
        return None
    if said.scale is None:
        raise ForeignError(
            f"it takes {taken.datatype}, and no file says of which range; give --scale 1/255 for "
            "values from 0 to 1, --scale 1 for 0 to 255, or --scale 1/127.5 --mean 1 for -1 to 1. "
            "A pixel becomes (scale * pixel - mean) / std; --mean and --std have a value, or one "
            "for each channel, such as --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 of ImageNet"
        )
    if not _LEAST_SCALE <= said.scale <= _MOST_SCALE:
        raise ForeignError(
            f"--scale: expected a number from {_LEAST_SCALE:g} to {_MOST_SCALE:g}, found "
            f"{said.scale:g}"
        )
    values = []
    for option, given in ("--mean", said.mean), ("--std", said.std):
        if len(given) not in (1, taken.channels):
            raise ForeignError(
                f"{option}: expected 1 or {taken.channels} values, found {len(given)}"
            )
        least, most = (_LEAST_SCALE if option == "--std" else -_MOST_SCALE), _MOST_SCALE
        if not all(least <= value <= most for value in given):
            raise ForeignError(
                f"{option}: expected numbers from {least:g} to {most:g}, found "
                + ",".join(f"{value:g}" for value in given)
            )
        values.append(given * taken.channels if len(given) == 1 else given)
    return Scaling(said.scale, *values)


def _image(taken: Taken, scaling: Scaling | None, said: Said) -> ImageInput:
    """Return the card's input. There, mean and deviation are of pixels in 0..1, in RGB."""
    if said.style != "photo" and taken.channels != 1:
        raise ForeignError(f"pictures of the style {said.style} have 1 channel, not 3")
    mean, std = (0.0,) * taken.channels, (1.0,) * taken.channels
    if scaling is not None:
        whole = 255 * scaling.scale
        order = -1 if taken.bgr else 1
        mean = tuple(round(value / whole, 6) for value in scaling.mean[::order])
        std = tuple(round(value / whole, 6) for value in scaling.std[::order])
    size = taken.height, taken.width, taken.channels
    return ImageInput(*size, said.style, mean=mean, std=std, resize=said.resize)


def _origin(
    source: _Source,
    taken: Taken,
    scaling: Scaling | None,
    command: str,
    outputs: Outputs,
    milliseconds: float,
) -> Imported:
    network = source.network
    wrote = " ".join(filter(None, (network.producer_name, network.producer_version)))
    # The name of a link where it is one, as those of Hugging Face's cache, and of "." the folder's.
    name = source.path.name if source.path.name.strip(".") else source.path.resolve().name
    return Imported(
        file=printable(name),  # bytes that are no text could not stand in the card
        format=source.format,
        producer=wrote[:_MOST_OF_A_NAME],
        bytes=sum(path.stat().st_size for path in source.files.values()),
        sha256=source.sha256(),
        command=printable(command),
        layout=taken.layout,
        datatype=taken.datatype,
        scale=scaling.scale if scaling else 1.0,
        outputs=outputs,
        milliseconds=round(milliseconds, 2),
        finished=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _put(folder: Path, card: Card, repository: Path) -> tuple[Path, Card]:
    """Make `folder` the newest version, by one rename, and return its new place and its card."""
    versions = repository / card.dataset / card.architecture / card.rule
    versions.mkdir(parents=True, exist_ok=True)
    while True:
        card = dataclasses.replace(card, version=next_version(versions))
        write_card(folder, card)
        read_card(folder)  # else the service would leave it out
        try:
            return folder.rename(versions / str(card.version)), card
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            # Another import was faster: the next number.
