"""Measure a model on corrupted images, and whether its energy score detects errors."""

from pathlib import Path

import numpy as np

from models.calibration import energy_scores
from models.cards import Card, Corrupted
from models.data.corruptions import NAMES, SEVERITY, corrupt
from models.data.datasets import load, scaled
from models.packaging.running import onnx_answers
from models.packaging.scoring import auroc

IMAGES = 2_000  # for each corruption; 30,000 over all of them


def measure_corrupted(folder: Path, card: Card, severity: int = SEVERITY) -> Corrupted:
    """Classify IMAGES images with each corruption, using the model.onnx in `folder`.

    The images are the first ones of the test set. Before publication, they are those of the
    validation split, so that recipes can be compared. Raises DataError if the data is missing, and
    CorruptionError for a severity outside 1..5, CardError for an imported model.
    """
    share = card.need_training().recipe["validation"]
    energy_temperature = card.need_calibration().energy_temperature
    arrays = load(card.dataset)
    chosen = arrays.x_test, arrays.y_test
    if card.test is None:
        _, chosen = arrays.split(share)
    images, labels = scaled(chosen[0][:IMAGES]), chosen[1][:IMAGES]
    by_corruption, energies, wrong = {}, [], []
    for name in NAMES:
        logits = onnx_answers(folder, corrupt(images, name, severity))
        right = logits.argmax(axis=1) == labels
        by_corruption[name] = round(float(right.mean()), 6)
        energies.append(energy_scores(logits, energy_temperature))
        wrong.append(~right)
    errors = np.concatenate(wrong)
    told = auroc(-np.concatenate(energies), errors) if 0 < errors.sum() < len(errors) else None
    return Corrupted(
        severity=severity,
        images=len(images),
        accuracy=round(sum(by_corruption.values()) / len(NAMES), 6),
        by_corruption=by_corruption,
        wrong_auroc=None if told is None else round(told, 6),
    )
