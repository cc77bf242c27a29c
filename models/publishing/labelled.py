"""Measure an imported model on labelled pictures: accuracy, calibration, energy threshold."""

import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from models.cards import Calibration, ImageInput, Scores
from models.data.folders import Labelled as File
from models.data.folders import labelled, open_source
from models.data.reading import UnreadableError, read_picture
from models.data.storage import StoredImages, write_header
from models.packaging.foreign import ForeignError
from models.packaging.running import onnx_logits
from models.packaging.scoring import calibrate, score

LEAST_PICTURES = 20
_MOST_LISTED = 5


@dataclass(frozen=True)
class Labelled:
    """What labelled pictures tell about a model; None without any."""

    calibration: Calibration | None
    scores: Scores | None
    notes: tuple[str, ...]


def measure(
    folder: Path, source: Path, target: ImageInput, labels: tuple[str, ...], scratch: Path
) -> Labelled:
    """Classify the pictures of `source` with the model in `folder`, prepared as the service does.

    `source` is a folder with a folder for each class, a table or a zip file of either, as for
    `data add`. Files that cannot be read are left out and named in the notes. Pixels are kept in
    the folder `scratch`. Raises ForeignError for unknown classes and too few pictures, DataError if
    nothing is labelled, and OSError where the disk is full.
    """
    numbers = {label: number for number, label in enumerate(labels)}
    left_out: list[str] = []
    with open_source(source) as opened:
        files = [_composed(file) for file in labelled(opened, source) if file.label]
        if unknown := sorted({file.label for file in files} - set(labels)):
            raise ForeignError(
                f"{source} has pictures of {', '.join(unknown[:_MOST_LISTED])}, which "
                f"{'is no class' if len(unknown) == 1 else 'are no classes'} of the model; the "
                f"folders are called as the labels: {', '.join(labels[:_MOST_LISTED])}, ..."
            )
        path, image = scratch / "images.npy", (target.height, target.width, target.channels)
        found: list[int] = []
        with path.open("wb") as written:
            write_header(written, (len(files), *image))
            for file in tqdm(files, desc="reading", unit="picture", disable=None):
                try:
                    pixels = read_picture(opened.read(file.file), target).pixels
                except (UnreadableError, OSError) as error:
                    left_out.append(f"{file.file} ({error})")
                else:
                    written.write(np.ascontiguousarray(pixels).data)
                    found.append(numbers[file.label])
            written.seek(0)
            write_header(written, (len(found), *image))
        if len(found) < LEAST_PICTURES:
            raise ForeignError(
                f"{source} has {len(found)} pictures that can be read; --calibrate needs at least "
                f"{LEAST_PICTURES}, better some hundreds"
                + "".join(f"; {problem}" for problem in left_out[:_MOST_LISTED])
            )
        split = StoredImages(path, np.arange(len(found))), np.array(found, np.int64)
        logits = onnx_logits(folder, split[0])
        if not np.isfinite(logits).all():
            raise ForeignError(f"it answers NaN or infinity to a picture of {source}")
        notes = []
        if left_out:
            listed = "; ".join(left_out[:_MOST_LISTED])
            notes.append(f"{len(left_out)} files were left out: {listed}")
        if missing := len(labels) - len(set(found)):
            notes.append(f"{missing} of {len(labels)} classes have no picture in {source}")
        scores = score(logits, split[1])
        if scores.interval[1] < 1 / len(labels):
            notes.append(
                f"it is right less often than chance ({scores.accuracy:.2%}): are the labels in "
                "the order of its outputs, and are --scale, --mean, --std and --bgr right?"
            )
        return Labelled(calibrate(logits, split), scores, tuple(notes))


def _composed(file: File) -> File:
    """Return a file with its label in the form of `read_labels`.

    macOS writes the accents in a folder's name as signs of their own.
    """
    return replace(file, label=unicodedata.normalize("NFC", file.label))
