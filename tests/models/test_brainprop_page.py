"""The table of BrainProp: published models, kept runs and unfinished ones."""

import json
import shutil
from pathlib import Path

import pytest

from models.__main__ import main
from studies.brainprop_page import PAPER, brainprop_table, epochs_to_99_percent

ROOT = Path(__file__).parents[2]


def rows(table):
    """(task, settings) -> the other cells."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {(row[0], row[1]): row[2:] for row in cells[2:]}


@pytest.fixture(scope="module")
def trained(made_data, tmp_path_factory):
    """Two epochs of reward learning and of its control, the former published."""
    root = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAPLASTIC_DATA", str(made_data))
        small = "network={maps = 2, hidden = 8, he = true}"
        for rule in ("brainprop", "backprop"):
            command = ["train", "mnist", "conv", "--rule", rule, "--preset", "fast"]
            settings = ["--epochs", "2", "--set", small, "--runs", str(root / "runs")]
            assert main([*command, *settings]) == 0
        ours, baseline = (
            next((root / "runs").glob(f"*-{rule}-*")) for rule in ("brainprop", "backprop")
        )
        publish = [
            "publish",
            str(ours),
            "--baseline",
            str(baseline),
            "--repository",
            str(root / "repository"),
        ]
        assert main(publish) == 0
    return root


def test_every_task_has_a_row_for_either_setting_and_says_what_is_not_trained():
    found = rows(brainprop_table([]))
    assert set(found) == {
        (" ".join(task), settings) for task in PAPER for settings in ("the paper's", "`fast`")
    }
    for accuracy, _, control, *epochs in found.values():
        assert (accuracy, control) == ("not trained yet", "not trained yet")
        assert epochs[:2] == ["-", "-"]


def test_a_published_model_shows_its_test_accuracy_beside_its_control(trained, tmp_path, capsys):
    repository, docs = trained / "repository", tmp_path / "docs"
    shutil.copytree(trained / "runs", docs / "runs")
    shutil.copy(ROOT / "docs" / "brainprop.md", docs)
    assert main(["report", "brainprop", "--docs", str(docs), "--repository", str(repository)]) == 0
    page = Path(capsys.readouterr().out.strip()).read_text()
    assert page.splitlines()[0] == "# BrainProp: learning from reward alone"
    table = page[page.index("| task |") :].split("\n\n")[0]
    found = rows(table)[("mnist conv", "`fast`")]
    (card,) = (json.loads(path.read_text()) for path in repository.rglob("card.json"))
    low, high = card["test"]["interval"]
    assert found[0] == f"{card['test']['accuracy']:.2%} ({low:.2%} - {high:.2%})"
    assert found[1] == "99.31 (0.04)"
    assert found[2].startswith(f"{card['control']['test_accuracy']:.2%} (")
    assert [cell.startswith("2, 99 % after ") for cell in found[3:5]] == [True, True]
    assert found[5] == "63 (18)"


def test_an_unfinished_training_stands_beside_its_control_at_the_same_epoch(trained, tmp_path):
    (baseline,) = (trained / "runs").glob("*-backprop-*")
    (ours,) = (trained / "runs").glob("*-brainprop-*")
    shutil.copytree(baseline, tmp_path / "baseline")
    card = json.loads((ours / "card.json").read_text())
    begun = {name: card[name] for name in ("dataset", "architecture", "rule")}
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "run.json").write_text(
        json.dumps({**begun, "recipe": card["training"]["recipe"], "command": ""})
    )
    first = "\n".join((ours / "history.csv").read_text().splitlines()[:2])
    (tmp_path / "ours" / "history.csv").write_text(first + "\n")
    found = rows(brainprop_table([tmp_path]))[("mnist conv", "`fast`")]
    assert found[0].startswith("unfinished, epoch 1 of 2: ")
    assert found[2].endswith("% by the same epoch (validation)")
    assert found[3].startswith("1, ")


def test_99_percent_is_of_the_best_validation_accuracy():
    history = [
        {"epoch": number, "val_accuracy": accuracy}
        for number, accuracy in enumerate([0.5, 0.985, 0.995, 1.0, 0.98], start=1)
    ]
    assert epochs_to_99_percent(history) == 3
