"""The table of docs/training.md: accuracy of published models on corrupted images."""

from pathlib import Path

from models.cards import find_models
from models.data.corruptions import NAMES
from models.publishing.markdown import table

HEADER = (
    *("model", "version", "test accuracy", "corrupted: mean", *NAMES),
    "AUROC of the energy score",
)


def page(prose: str, docs: Path, repository: Path) -> str:
    """Return docs/training.md, whose text is `prose`, with a new table."""
    before, rest = prose.split(table(HEADER, []), 1)
    _, after = rest.split("\n\n", 1)
    return f"{before}{corruptions_table(repository)}\n\n{after}"


def corruptions_table(repository: Path) -> str:
    """Return a Markdown table with a row for each published model measured on corrupted images."""
    rows = []
    for _, card in find_models(repository):
        found = card.corrupted
        if card.test is None or found is None:
            continue
        shares = (card.test.accuracy, found.accuracy, *(found.by_corruption[n] for n in NAMES))
        told = "-" if found.wrong_auroc is None else f"{found.wrong_auroc:.3f}"
        cells = (f"{share:.2%}" for share in shares)
        rows.append((card.name, str(card.version), *cells, told))
    return table(HEADER, rows)
