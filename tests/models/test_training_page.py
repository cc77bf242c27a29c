"""docs/training.md has the results on corrupted images that the cards hold."""

import shutil
from pathlib import Path

from models.__main__ import main
from models.cards import find_models
from models.data.augmentation import AUGMENTATIONS, MIXTURES
from studies.training_page import corruptions_table

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_page_has_the_figures_of_the_cards(tmp_path):
    assert corruptions_table(ROOT / "weights") in PAGE
    shutil.copy(ROOT / "docs" / "training.md", tmp_path)
    command = ["report", "training", "--docs", str(tmp_path), "--repository", str(ROOT / "weights")]
    assert main(command) == 0
    assert (tmp_path / "training.md").read_text(encoding="utf-8") == PAGE


def test_every_measured_model_has_a_row():
    measured = [card for _, card in find_models(ROOT / "weights") if card.corrupted]
    assert measured
    lines = corruptions_table(ROOT / "weights").splitlines()[2:]
    assert [line.split(" | ")[0].strip("| ") for line in lines] == [card.name for card in measured]


def test_every_augmentation_is_described():
    for name in (*AUGMENTATIONS, *MIXTURES):
        assert f"| `{name}` |" in PAGE
