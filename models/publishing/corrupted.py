"""How a model does on spoilt pictures, and whether its energy score says so."""

from pathlib import Path

import numpy as np

from models.cards import Card, Corrupted
from models.data.corruptions import NAMES, SEVERITY, corrupt
from models.data.datasets import load, scaled
from models.packaging.export import onnx_answers
from models.packaging.scoring import auroc, energy_scores

IMAGES = 2_000  # thirty thousand answers over all corruptions


def measure_corrupted(folder: Path, card: Card, severity: int = SEVERITY) -> Corrupted:
    """Classify IMAGES images under each corruption with the model.onnx in `folder`.

    They are the first of the test set; before publication of the validation split, so that a recipe
    can be chosen by them. Raises DataError where there is no data, CorruptionError for a severity
    outside 1..5.
    """
    arrays = load(card.dataset)
    chosen = arrays.x_test, arrays.y_test
    if card.test is None:
        _, chosen = arrays.split(card.training.recipe["validation"])
    images, labels = scaled(chosen[0][:IMAGES]), chosen[1][:IMAGES]
    by_corruption, energies, wrong = {}, [], []
    for name in NAMES:
        logits = onnx_answers(folder, corrupt(images, name, severity))
        right = logits.argmax(axis=1) == labels
        by_corruption[name] = round(float(right.mean()), 6)
        energies.append(energy_scores(logits, card.calibration.energy_temperature))
        wrong.append(~right)
    faults = np.concatenate(wrong)
    told = auroc(-np.concatenate(energies), faults) if 0 < faults.sum() < len(faults) else None
    return Corrupted(
        severity=severity,
        images=len(images),
        accuracy=round(sum(by_corruption.values()) / len(NAMES), 6),
        by_corruption=by_corruption,
        wrong_auroc=None if told is None else round(told, 6),
    )
