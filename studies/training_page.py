"""The table of docs/training.md: how published models do on spoilt pictures, from their cards."""

from pathlib import Path

from models.cards import find_models
from models.data.corruptions import NAMES
from models.publishing.markdown import table

HEADER = (
    *("model", "version", "test accuracy", "spoilt: mean", *NAMES),
    "AUROC of wrong by energy",
)


def page(prose: str, docs: Path, shelf: Path) -> str:
    """docs/training.md, written by hand as `prose`, with its table renewed."""
    before, rest = prose.split(table(HEADER, []), 1)
    _, after = rest.split("\n\n", 1)
    return f"{before}{corruptions_table(shelf)}\n\n{after}"


def corruptions_table(shelf: Path) -> str:
    """A Markdown table with a row for each published model that was measured on spoilt pictures."""
    rows = []
    for _, card in find_models(shelf):
        found = card.corrupted
        if card.test is None or found is None:
            continue
        shares = (card.test.accuracy, found.accuracy, *(found.by_corruption[n] for n in NAMES))
        told = "-" if found.wrong_auroc is None else f"{found.wrong_auroc:.3f}"
        cells = (f"{share:.2%}" for share in shares)
        rows.append((card.name, str(card.version), *cells, told))
    return table(HEADER, rows)
