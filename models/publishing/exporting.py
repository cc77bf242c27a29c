"""Make the ONNX files of a finished run, or of a published model, again."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from models.cards import (
    CARD,
    INT8_MODEL,
    KERAS_MODEL,
    ONNX_MODEL,
    Card,
    Int8,
    checksum,
    read_card,
    write_card,
)
from models.data.datasets import load
from models.packaging.export import ExportError, agreement, export, keras_logits
from models.packaging.running import onnx_logits
from models.publishing.int8 import add_int8
from models.scratch import scratch_folder


@dataclass(frozen=True)
class Exported:
    """What an export has written."""

    path: Path  # of `model.onnx`
    card: Card | None  # None: the folder has none
    int8: Int8 | None  # what `model.int8.onnx` reaches, where it was asked for, kept or not


def export_again(folder: Path, int8: bool = False) -> Exported:
    """Write `model.onnx` into `folder`, with `int8` also `model.int8.onnx`, and say so in its card.

    Of a published model the new file must agree with Keras on the whole test set, else the old
    ones stay. Raises ExportError, CardError or DataError.
    """
    if not (folder / CARD).exists():
        if int8:
            raise ExportError(f"{folder} holds no {CARD}: only a finished training has 8 bits")
        return Exported(export(folder), None, None)
    card, found = read_card(folder), None
    card.need_training()  # an imported network is its ONNX file
    if not (folder / KERAS_MODEL).exists():
        raise ExportError(f"{folder} holds no {KERAS_MODEL}")
    with scratch_folder(folder, ".exporting-") as staging:
        (staging / KERAS_MODEL).symlink_to((folder / KERAS_MODEL).resolve())
        export(staging)
        card = dataclasses.replace(
            card, files={**card.files, ONNX_MODEL: checksum(staging / ONNX_MODEL)}
        )
        if card.test is not None:
            images = load(card.dataset).x_test
            answers = keras_logits(staging, images), onnx_logits(staging, images)
            agreement(*answers, card.need_calibration().temperature).check()
        if int8:
            card, found = add_int8(staging, card, load(card.dataset))
            (folder / INT8_MODEL).unlink(missing_ok=True)
        for path in sorted(staging.glob("*.onnx")):
            path.replace(folder / path.name)
    write_card(folder, card)
    return Exported(folder / ONNX_MODEL, card, found)
