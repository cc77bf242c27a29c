"""Paired comparisons: what is paired, what is counted, and that nothing is trained twice."""

import pytest

from models.__main__ import main
from studies.compare import compare_rules
from studies.plan import BASELINE
from studies.results import read_rows
from studies.statistics import paired_difference


def test_a_paired_difference_by_hand():
    found = paired_difference([0.92, 0.95, 0.94], [0.90, 0.94, 0.91])
    assert found.mean == pytest.approx(0.02)
    # sd 0.01, standard error 0.01 / sqrt(3), t(2) = 4.303
    assert (found.low, found.high) == pytest.approx((0.02 - 0.024843, 0.02 + 0.024843), abs=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("on_made_data")
def test_variants_are_paired_and_trained_once(tmp_path):
    variants = {
        "backprop": (BASELINE, 0.0, 1.0),
        "backprop, rate x 2": (BASELINE, 0.0, 2.0),
        "almost off": ("kernel", 1e-7, 1.0),
    }
    wanted = {"seeds": 2, "epochs": 1, "images": 100, "root": tmp_path, "variants": variants}
    found = compare_rules("mnist", "lenet", **wanted)
    assert list(found) == list(variants)
    assert [pairs.seeds for pairs in found.values()] == [2, 2, 2]
    assert found["backprop"].difference("validation") is None
    assert found["backprop, rate x 2"].difference("validation") is not None
    almost_off, baseline = (found[name].values("validation") for name in ("almost off", "backprop"))
    assert almost_off == pytest.approx(baseline, abs=0.05)
    (table,) = [path for path in tmp_path.glob("*.csv") if "curves" not in path.name]
    rows = read_rows(table)
    assert len(rows) == 6
    assert not any(row.get("test") for row in rows)  # no choice is made on the test set
    before = table.read_bytes()
    assert compare_rules("mnist", "lenet", **wanted) == found
    assert table.read_bytes() == before


@pytest.mark.slow
@pytest.mark.usefixtures("on_made_data")
def test_another_recipe_is_another_comparison(tmp_path, monkeypatch):
    variants = {"backprop": (BASELINE, 0.0, 1.0)}
    wanted = {"seeds": 2, "epochs": 1, "images": 60, "root": tmp_path, "variants": variants}
    compare_rules("mnist", "lenet", **wanted)
    recipes = tmp_path / "recipes.toml"
    text = "dropout = 0.3"
    from models.training import recipes as module

    recipes.write_text(module.RECIPES.read_text().replace(text, "dropout = 0.1"))
    monkeypatch.setattr(module, "RECIPES", recipes)
    compare_rules("mnist", "lenet", **wanted)
    assert len(list(tmp_path.glob("*-curves.csv"))) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("on_made_data")
def test_the_command_prints_each_variant_with_its_difference(tmp_path, capsys):
    arguments = ["compare", "mnist", "lenet", "--comparisons", str(tmp_path)]
    assert main([*arguments, "--seeds", "2", "--epochs", "1", "--images", "40"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "variant"
    assert [line.split("  ")[0] for line in lines[2:4]] == ["backprop", "backprop, rate x 0.5"]
    assert len(lines) == 2 + 9
    assert " to " in lines[-1]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--seeds", "1"), "seeds: expected 2 to 31, found 1"),
        (("--images", "200"), "images: expected up to half of the 300 there are, found 200"),
    ],
)
@pytest.mark.usefixtures("on_made_data")
def test_what_cannot_be_compared_is_refused(option, message, tmp_path, capsys):
    arguments = ["compare", "mnist", "lenet", "--comparisons", str(tmp_path), *option]
    assert main(arguments) == 1
    assert message in capsys.readouterr().err
