"""The table of models, made from the cards in the model repository."""

from pathlib import Path

from models.cards import RULES, find_models
from models.publishing.markdown import table

_ORDER = ("lenet", "alexnet", "googlenet", "vgg")


def models_table(repository: Path) -> str:
    """Return a Markdown table with a row for each published model, sorted by data set."""
    header = "data set", "architecture", "rule", "parameters", "multiply-adds", "test accuracy"
    rows = []
    cards = [card for _, card in find_models(repository) if card.test]
    cards.sort(
        key=lambda card: (card.dataset, _rank(_ORDER, card.architecture), _rank(RULES, card.rule))
    )
    for card in cards:
        assert card.test is not None
        low, high = card.test.interval
        rows.append(
            (
                *(card.dataset, card.architecture, card.rule),
                *(f"{card.parameters:,}", f"{card.multiply_adds:,}"),
                *(f"{card.test.accuracy:.2%}", f"{low:.2%} - {high:.2%}"),
                f"{card.control.test_accuracy:.2%}" if card.control else "",
            )
        )
    return table((*header, "95 % interval", "baseline"), rows)


def _rank(order: tuple[str, ...], name: str) -> tuple[int, str]:
    """Return a sort key: the place in `order`, or the last place, then the name."""
    return (order.index(name) if name in order else len(order), name)
