"""Paired comparisons: what is paired, what is counted, and that nothing is trained twice."""

import pytest

from models.__main__ import main
from studies.compare import compare_rules
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
        "backprop": ("backprop", {}),
        "backprop, rate x 2": ("backprop", {"rate": 2.0}),
        "all but off": ("metaplastic", {"rule": "kernel", "strength": 1e-7}),
    }
    wanted = {"seeds": 2, "epochs": 1, "images": 100, "root": tmp_path}
    results = compare_rules("mnist", "lenet", variants, **wanted)
    assert [result.variant for result in results] == list(variants)
    plain, _, off = results
    assert plain.difference.mean == 0
    assert off.accuracies == pytest.approx(plain.accuracies, abs=0.05)
    folders = sorted(tmp_path.glob("*/*"))
    assert len(folders) == 6
    assert compare_rules("mnist", "lenet", variants, **wanted) == results
    assert sorted(tmp_path.glob("*/*")) == folders


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
