"""The file of aliases: written whole, changed in turn, and refused where it is rotten."""

import json
import multiprocessing
from pathlib import Path

import pytest

from models.aliases import (
    ALIASES,
    AliasError,
    Aliases,
    VersionError,
    promote,
    read_aliases,
    remove_aliases,
    roll_back,
    set_aliases,
)

CARD = next(Path("weights/mnist/lenet/metaplastic").glob("*/card.json")).read_text()


def put(folder: Path, version: int, labels: str = "0123456789") -> None:
    """Put a version into `folder`, as far as aliases are concerned."""
    (folder / str(version)).mkdir()
    card = {**json.loads(CARD), "version": version, "labels": list(labels)}
    (folder / str(version) / "card.json").write_text(json.dumps(card))


def test_without_a_file_there_are_no_aliases(tmp_path: Path) -> None:
    assert read_aliases(tmp_path) == Aliases()


def test_a_challenger_becomes_champion_and_can_be_taken_back(tmp_path: Path) -> None:
    for version in (4, 5):
        put(tmp_path, version)
    set_aliases(tmp_path, champion=4)
    set_aliases(tmp_path, challenger=5)
    assert read_aliases(tmp_path) == Aliases(4, 5)
    assert promote(tmp_path) == Aliases(champion=5, former=4)
    set_aliases(tmp_path, challenger=6)
    assert roll_back(tmp_path) == Aliases(champion=4, challenger=6)
    remove_aliases(tmp_path)
    assert read_aliases(tmp_path) == Aliases()


def test_only_the_versions_that_were_judged_are_changed(tmp_path: Path) -> None:
    for version in (4, 6):
        put(tmp_path, version)
    set_aliases(tmp_path, champion=4, challenger=6)
    with pytest.raises(AliasError, match="version 5 is not the challenger any more"):
        promote(tmp_path, 5)
    promote(tmp_path, 6)
    with pytest.raises(AliasError, match="version 4 is not the champion any more"):
        roll_back(tmp_path, 4)
    with pytest.raises(AliasError, match="no challenger"):
        promote(tmp_path)
    roll_back(tmp_path, 6)
    with pytest.raises(AliasError, match="no former champion"):
        roll_back(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"champion": "4"}', '{"challenger": true}', '{"former": -1}'],
)
def test_a_rotten_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / ALIASES).write_text(content)
    with pytest.raises(AliasError, match=ALIASES):
        read_aliases(tmp_path)
    # Nothing replaces it: it may name a champion that somebody has chosen.
    for change in (promote, roll_back, lambda folder: set_aliases(folder, champion=4)):
        with pytest.raises(AliasError, match=ALIASES):
            change(tmp_path)
    assert (tmp_path / ALIASES).read_text() == content


def test_a_version_that_is_gone_cannot_become_the_champion(tmp_path: Path) -> None:
    put(tmp_path, 4)
    before = set_aliases(tmp_path, champion=4, challenger=5, former=3)
    with pytest.raises(VersionError, match="version 5 is gone: there is no folder 5"):
        promote(tmp_path)
    with pytest.raises(VersionError, match="version 3 is gone: there is no folder 3"):
        roll_back(tmp_path)
    (tmp_path / "5").mkdir()
    with pytest.raises(VersionError, match=r"version 5 cannot be used: .*card\.json"):
        promote(tmp_path)
    assert read_aliases(tmp_path) == before


@pytest.mark.parametrize("labels", ["9876543210", "012345678x"])
def test_a_challenger_with_other_labels_is_not_promoted(tmp_path: Path, labels: str) -> None:
    put(tmp_path, 4)
    put(tmp_path, 5, labels)
    before = set_aliases(tmp_path, champion=4, challenger=5)
    with pytest.raises(VersionError, match="version 5 has other labels than version 4"):
        promote(tmp_path)
    assert read_aliases(tmp_path) == before


def test_a_rollback_returns_to_what_answered_before(tmp_path: Path) -> None:
    for version in (4, 5):
        put(tmp_path, version)
    for champion in (None, 3):  # not named, or gone: then version 4 answered
        set_aliases(tmp_path, champion=champion, challenger=5)
        assert promote(tmp_path, answering=4) == Aliases(champion=5, former=4)
        assert roll_back(tmp_path) == Aliases(champion=4)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(AliasError, match="cannot be changed"):
        set_aliases(tmp_path / "no", champion=1)


def change_often(folder: Path, name: str) -> None:
    for version in range(200):
        set_aliases(folder, **{name: version})


def test_two_processes_change_aliases_in_turn(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    names = ("champion", "challenger", "former")
    processes = [
        context.Process(target=change_often, args=(tmp_path, name), daemon=True) for name in names
    ]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        read_aliases(tmp_path)  # whole at any moment
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert read_aliases(tmp_path) == Aliases(199, 199, 199)
