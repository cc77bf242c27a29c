"""The card: what is written is read, and what is wrong is named."""

import json
import shutil

import pytest

from models.cards import CardError, find_models, read_card, write_card


@pytest.fixture
def folder(tmp_path, runs):
    shutil.copytree(runs["metaplastic"], tmp_path / "model")
    return tmp_path / "model"


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
        (lambda card: card.update(calibration=7), "calibration: expected an object, found 7"),
    ],
)
def test_a_wrong_card_is_refused_with_the_file_the_field_and_what_was_expected(
    folder, edit, message
):
    change(folder, edit)
    with pytest.raises(CardError, match=message) as refused:
        read_card(folder)
    assert str(folder / "card.json") in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]"])
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
