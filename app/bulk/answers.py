"""The answers about the pictures of a chunk, in the process that works on it."""

import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from app.bulk.job import Chunk
from app.bulk.parts import write_part
from app.bulk.sources import Listed, Source, read_picture
from app.bulk.tables import Row, name_in_tables
from app.catalogue.catalogue import Model, RepositoryError
from app.catalogue.load import load_model
from app.catalogue.network import BATCH
from app.errors import RequestError
from app.images.readings import Prepared
from app.images.upload import Upload
from app.predict.classify import prepare_each, usable
from app.predict.recognition import recognise
from app.settings import Settings, StartError
from models.cards import CARD, INT8_MODEL
from models.processor import multiplies_int8
from models.terminal import printable


@dataclass(frozen=True)
class ModelFile:
    """The file of a model that runs, and where a process finds it."""

    folder: Path
    runs: str  # the file's name
    sha256: str
    # The bytes of the card and of that file by their names, for a machine that lacks the folder.
    copy: Callable[[], Mapping[str, bytes]] | None = None


@dataclass(frozen=True)
class Order:
    """What all chunks of a job have in common."""

    source: Source
    parts: Path  # the folder to write to
    model: ModelFile
    settings: Settings
    answer: "Answer"


# Yields a row for each picture.
Answer = Callable[[Order, tuple[Listed, ...]], Iterable[Row]]


class Done(NamedTuple):
    """A chunk whose part is written."""

    number: int
    classified: int
    skipped: int


def work_on(order: Order, chunk: Chunk) -> Done | str:
    """Write the part of a chunk, and return what is in it.

    Or return why no chunk can be done here: the model cannot be run, the part cannot be written.
    """
    try:
        rows = list(order.answer(order, chunk.pictures))
        write_part(order.parts, chunk.number, rows)
    except StartError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename or order.parts}: {error.strerror or error}"
    except Exception:  # of this program: the next chunk would end so too
        return traceback.format_exc()
    skipped = sum(bool(row.error) for row in rows)
    return Done(chunk.number, len(rows) - skipped, skipped)


def classify(order: Order, pictures: tuple[Listed, ...]) -> Iterator[Row]:
    """Yield the answer about each of `pictures`, or why there is none, in their order."""
    model = _model(order.model, order.settings)
    for start in range(0, len(pictures), BATCH):
        some = pictures[start : start + BATCH]
        found = [_prepared(order, picture, model) for picture in some]
        good = [one for one in found if isinstance(one, Prepared)]
        answers = _rows(model, good)
        for picture, one in zip(some, found, strict=True):
            row = next(answers) if isinstance(one, Prepared) else Row("", error=one.message)
            yield row._replace(file=name_in_tables(picture.name))


def _prepared(order: Order, picture: Listed, model: Model) -> Prepared | RequestError:
    try:
        data = read_picture(order.source, picture, order.settings.max_request_bytes)
        each = prepare_each([Upload(data, None)], model.card.input, order.settings, raw=False)
        return usable(*each)
    except RequestError as error:
        return error.again()
    except StartError:
        raise
    except Exception as error:  # one picture must not stop a million others
        return RequestError(500, "internal", f"It cannot be prepared: {error!r}.")


def _rows(model: Model, pictures: list[Prepared]) -> Iterator[Row]:
    """Yield the answers about `pictures`, or why there is none, still without their names."""
    if not pictures:
        return
    try:
        found = recognise(model.network, model.calibration, pictures)
    except Exception as error:  # NaN, or what ONNX Runtime raises: perhaps for one of them only
        if len(pictures) > 1:
            for one in pictures:
                yield from _rows(model, [one])
            return
        told = error.message if isinstance(error, RequestError) else f"The network failed: {error}"
        yield Row("", error=told)
        return
    for seen in found:
        probabilities = seen.outcome.probabilities[0]
        best = int(probabilities.argmax())
        yield Row(
            "",
            printable(model.card.labels[best]),
            f"{probabilities[best]:.6f}",
            "" if (known := seen.outcome.is_familiar(0)) is None else str(known).lower(),
        )


_models: dict[str, Model] = {}  # the one that this process runs, by its SHA-256


def _model(wanted: ModelFile, settings: Settings) -> Model:
    """Return the model of this process, loaded by the first call. Raises StartError."""
    if wanted.sha256 not in _models:
        _models.clear()
        _models[wanted.sha256] = _load(wanted, settings)
    return _models[wanted.sha256]


def _load(wanted: ModelFile, settings: Settings) -> Model:
    if wanted.runs == INT8_MODEL and not multiplies_int8():
        raise StartError(
            f"{INT8_MODEL} was chosen where the job began, and a processor at work now does not "
            "run it exactly. Set METAPLASTIC_INT8=off, and begin again with another --out."
        )
    # The file that was chosen where the job began, whatever this processor would choose.
    settings = replace(settings, int8="auto" if wanted.runs == INT8_MODEL else "off")
    try:
        model = load_model(wanted.folder, settings)
        if model.content.sha256 != wanted.sha256:
            path = wanted.folder / wanted.runs
            raise RepositoryError(f"{path} is another file than where the job began.")
    except RepositoryError:
        if wanted.copy is None:
            raise
        with tempfile.TemporaryDirectory() as folder:
            for name, content in wanted.copy().items():
                Path(folder, name).write_bytes(content)
            model = load_model(Path(folder), settings)
    try:
        _ = model.network
    except RequestError as error:
        raise StartError(model.known_problem or error.message) from error
    return model


def copy_of(model: ModelFile) -> dict[str, bytes]:
    """Return the files that another machine needs to run `model`. Raises OSError."""
    return {name: (model.folder / name).read_bytes() for name in (CARD, model.runs)}
