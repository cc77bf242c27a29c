"""Calibrate a finished model again. Its card changes, its network does not."""

import dataclasses
from pathlib import Path

from models.cards import INT8_MODEL, Card, read_card, write_card
from models.data.datasets import load
from models.packaging.export import keras_logits
from models.packaging.running import onnx_logits
from models.packaging.scoring import calibrate


def calibrate_again(folder: Path) -> Card:
    """Fit the calibration of the model in `folder` on its validation split.

    Write the result to the card and return the new card. Raises CardError or DataError.
    """
    card = read_card(folder)
    share, outputs = card.need_training().recipe["validation"], card.need_calibration().outputs
    _, validation = load(card.dataset).split(share)
    logits = keras_logits(folder, validation[0])
    fitted = calibrate(logits, validation, outputs)
    card = dataclasses.replace(card, calibration=fitted)
    if card.int8 is not None:
        logits = onnx_logits(folder, validation[0], INT8_MODEL)
        fitted = calibrate(logits, validation, outputs)
        card = dataclasses.replace(card, int8=dataclasses.replace(card.int8, calibration=fitted))
    write_card(folder, card)
    return card
