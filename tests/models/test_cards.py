"""The card: what is written is read, and what is wrong is named."""

import json
import shutil
from pathlib import Path

import pytest

from models.cards import CardError, find_models, read_card, write_card

PUBLISHED = Path(__file__).parents[2] / "weights/fashion-mnist/lenet/metaplastic/1"


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(PUBLISHED, tmp_path / "model")
    return tmp_path / "model"


def corrupted(**changes):
    """What a card says of corrupted images."""
    right = {"severity": 3, "images": 9, "accuracy": 0.5, "by_corruption": {}, "wrong_auroc": None}
    return {**right, **changes}


def change(folder, edit):
    card = json.loads((folder / "card.json").read_text())
    edit(card)
    (folder / "card.json").write_text(json.dumps(card))


def test_a_card_is_read_as_it_was_written(folder):
    card = read_card(folder)
    write_card(folder, card)
    assert read_card(folder) == card


def test_a_confusion_matrix_is_written_as_a_table(folder):
    write_card(folder, read_card(folder))
    lines = (folder / "card.json").read_text().splitlines()
    row = next(line for line in lines if line.startswith("   [") and line.count(",") >= 9)
    assert len(row.strip(" [],").split(",")) == 10


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda card: card.pop("labels"), "missing labels"),
        (lambda card: card["input"].pop("std"), "input: missing std"),
        (lambda card: card.update(version="one"), "version: expected int, found 'one'"),
        (lambda card: card.update(version=True), "version: expected int, found True"),
        (lambda card: card["input"].update(style="oil"), "input: style: expected one of digit"),
        (lambda card: card["labels"].append(3), r"labels: \[10\] expected str, found 3"),
        (lambda card: card["validation"].update(interval=[0.1]), "expected 2 entries, found 1"),
        (
            lambda card: card["calibration"].update(least_contrast=2),
            "least_contrast: expected 0 to",
        ),
        (lambda card: card.update(corrupted=corrupted(accuracy=1.2)), "corrupted: expected shares"),
        (
            lambda card: card.update(corrupted=corrupted(by_corruption={"fog": "thick"})),
            "corrupted: expected shares",
        ),
        (lambda card: card.update(corrupted={"severity": 3}), "corrupted: missing images"),
        (lambda card: card.update(distillation={"teachers": [{}]}), "missing name, version"),
        (lambda card: card.update(calibration=7), "calibration: expected an object, found 7"),
        (lambda card: card.update(version=-1), "version: expected a whole number from 0"),
        (lambda card: card.update(labels=[]), "labels: expected a name for each class"),
        (lambda card: card["labels"].__setitem__(0, "\ud800"), r"labels: \[0\] expected text"),
        (lambda card: card["labels"].pop(), "validation: per_class: expected 9 entries, found 10"),
        (lambda card: card["validation"]["confusion"].pop(), "confusion: expected 10 rows of 10"),
        (lambda card: card["validation"].update(accuracy=1.5), "validation: expected shares"),
        (
            lambda card: card["validation"].update(accuracy=float("nan")),
            "validation: accuracy: expected a finite number, found nan",
        ),
        (
            lambda card: card["training"]["recipe"].update(rates=[0.1, float("inf")]),
            r"training: recipe: rates: \[1\] expected a finite number, found inf",
        ),
        (
            lambda card: card["input"].update(height=0),
            "input: height: expected a whole number from",
        ),
        (
            lambda card: card["input"].update(width=2 * 10**9),
            "input: width: expected a whole number",
        ),
        (
            lambda card: card["input"].update(channels=2),
            "input: channels: expected 1 or 3, found 2",
        ),
        (lambda card: card["input"].update(std=[]), "input: std: expected 1 entries, found 0"),
        (lambda card: card["calibration"].update(temperature=0), "temperature: expected a number"),
        (
            lambda card: card["calibration"].update(energy_temperature=-1),
            "energy_temperature: expected a number above 0",
        ),
    ],
)
def test_a_wrong_card_is_refused_with_the_file_the_field_and_what_was_expected(
    folder, edit, message
):
    change(folder, edit)
    with pytest.raises(CardError, match=message) as refused:
        read_card(folder)
    assert str(folder / "card.json") in str(refused.value)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000, b'{"a":' * 30 + b"1" + b"}" * 30]
)
def test_what_is_not_json_is_refused(folder, content):
    (folder / "card.json").write_bytes(content)
    with pytest.raises(CardError, match=r"card\.json"):
        read_card(folder)


def test_a_card_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CardError, match="cannot be read"):
        read_card(tmp_path)


def test_fields_of_a_newer_version_are_passed_over(folder):
    before = read_card(folder)
    change(folder, lambda card: card.update(invented_later={"a": 1}))
    assert read_card(folder) == before


def test_models_are_found_at_any_depth_but_not_where_they_are_half_made(tmp_path, folder):
    shutil.copytree(folder, tmp_path / ".publishing-x" / "model")
    assert [path for path, _ in find_models(tmp_path)] == [folder]
    assert [path for path, _ in find_models(folder)] == [folder]
