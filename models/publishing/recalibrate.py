"""Calibrate a finished model again. Its card changes, its network does not."""

import dataclasses
from pathlib import Path

from models.cards import Card, read_card, write_card
from models.data.datasets import load, split
from models.packaging.export import keras_logits
from models.packaging.scoring import calibrate


def calibrate_again(folder: Path) -> Card:
    """Fit the calibration of the model in `folder` on its validation split.

    Write the result to the card and return the new card. Raises CardError or DataError.
    """
    card = read_card(folder)
    arrays = load(card.dataset)
    _, validation = split(arrays.x_train, arrays.y_train, card.training.recipe["validation"])
    logits = keras_logits(folder, validation[0])
    fitted = calibrate(logits, validation, card.calibration.outputs)
    card = dataclasses.replace(card, calibration=fitted)
    write_card(folder, card)
    return card
