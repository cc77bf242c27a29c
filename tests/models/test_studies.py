"""The studies: what is paired and chosen, that work is shared and nothing is trained twice."""

import dataclasses
import functools
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from made_results import write_all, write_made_results

from models.__main__ import main
from models.errors import MetaplasticError
from models.training.runs import note_hardware
from studies import vgg_page
from studies.commands import PAGES, with_summary, write_report
from studies.forgetting import learn_in_turn
from studies.groups import FORGETTING, INGREDIENTS, LEARNING, VARIANTS
from studies.plan import BASELINE, TUNING_SEEDS, Budget, Group, Limits, chosen, plan
from studies.results import Tables, TrialResult, read_curves, read_done, record
from studies.summary import epochs_to, lines
from studies.training import arrays_of, learn, prepared
from studies.vgg_page import gain
from studies.work import work_through

ROOT = Path(__file__).parent.parent.parent
REPOSITORY = ROOT / "weights"

SMALL = Group(
    *("mnist", "lenet", "sgd"),
    conditions={"clean": Budget(60, 2), "wrong-labels": Budget(60, 2)},
    seeds=2,
    rates=(0.01, 0.03),
    strengths={"consolidating": (3.0,)},
    tuning=Budget(40, 1),
)


def a_trial(**changes):
    settings = {"learning_rate": 0.03, "strength": 0.0} | changes
    return SMALL.trial("clean", "report", "plain", 0, **settings)


def figures(**values):
    return TrialResult({**values, "seconds": 1.0}, [{"epoch": 1, "val_accuracy": 0.5}])


def test_tries_come_before_what_they_choose(tmp_path):
    tables = Tables(tmp_path, "study")

    def do(trials, accuracy):
        for trial in trials:
            record(tables, trial, figures(validation=accuracy(trial)), tmp_path / "lock")

    rates = plan([SMALL], {})
    assert {(t.purpose, t.rule, t.seed) for t in rates} == {
        ("tuning", BASELINE, seed) for seed in TUNING_SEEDS
    }
    assert {t.learning_rate for t in rates} == {0.01, 0.03}
    do(rates, lambda trial: trial.learning_rate)
    known = plan([SMALL], read_done(tables))
    reports = [trial for trial in known if trial.purpose == "report"]
    assert chosen(SMALL, read_done(tables)) == {BASELINE: (0.03, 0.0), "consolidating": (0.03, 3.0)}
    assert {t.learning_rate for t in reports} == {0.03}
    assert not {t.seed for t in reports} & set(TUNING_SEEDS)
    # Pairs: the same but for the rule and its strength.
    paired = {(t.condition, t.seed, t.images, t.epochs) for t in reports}
    assert len(reports) == 2 * len(paired) == 8


def test_the_baseline_and_every_rule_get_as_many_tries():
    for group in (*LEARNING, *FORGETTING):
        tries = {len(group.rates), *map(len, group.strengths.values())}
        assert len(tries) == 1
        assert tries.pop() >= 3


def test_the_studies_are_as_large_as_is_promised():
    lenets = [group for group in LEARNING if group.architecture == "lenet"]
    assert {(group.dataset, group.optimizer) for group in lenets} == {
        (dataset, optimizer)
        for dataset in ("mnist", "fashion-mnist", "cifar10")
        for optimizer in ("sgd", "adam")
    }
    assert all(group.seeds >= 5 for group in lenets)
    assert all(group.seeds >= 3 for group in (*LEARNING, *FORGETTING))
    for group in LEARNING:
        assert set(group.strengths) == {"kernel", "consolidating", "pattern"}
    assert {condition for group in INGREDIENTS for condition in group.conditions} == set(VARIANTS)


def test_more_is_asked_for_without_choosing_other_constants():
    (limited,) = Limits(seeds=7, epochs=9, images=500, parts=("clean",)).apply([SMALL])
    assert limited.conditions == {"clean": Budget(500, 9)}
    assert limited.seeds == 7
    assert limited.tuning == SMALL.tuning
    few = dataclasses.replace(SMALL, conditions={"few-samples": Budget(50, 2, fixed=True)})
    (limited,) = Limits(epochs=9, images=500).apply([few])
    assert limited.conditions == {"few-samples": Budget(50, 9, fixed=True)}
    (less,) = Limits(images=30).apply([SMALL])
    assert less.tuning == Budget(30, 1)


def test_rows_are_sorted_and_read_back_whichever_came_first(tmp_path):
    trials = [a_trial(), a_trial(learning_rate=1e-3), a_trial(strength=0.15)]
    for name, order in (("one", trials), ("other", trials[::-1])):
        for trial in order:
            record(Tables(tmp_path, name), trial, figures(test=0.987654321), tmp_path / "lock")
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "other.csv").read_bytes()
    assert (tmp_path / "one-curves.csv").read_bytes() == (
        tmp_path / "other-curves.csv"
    ).read_bytes()
    assert set(read_done(Tables(tmp_path, "one"))) == set(trials)
    assert len({trial.name for trial in trials}) == 3


def test_a_row_that_is_no_trial_is_an_error_that_names_the_file(tmp_path):
    (tmp_path / "study.csv").write_text("dataset,seed\nmnist,one\n")
    with pytest.raises(MetaplasticError, match=r"study\.csv has a row that is no trial"):
        read_done(Tables(tmp_path, "study"))


def test_wrong_labels_are_a_fifth_and_the_same_for_paired_trials():
    images = np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1)
    labels = np.arange(100) % 10

    def told(rule, seed):
        trial = SMALL.trial("wrong-labels", "report", rule, seed, learning_rate=0.03)
        return prepared(trial, images, labels, 10)

    (x, y), (x_again, y_again) = told(BASELINE, 0), told("consolidating", 0)
    assert (x == x_again).all()
    assert (y == y_again).all()
    assert len(x) == 60
    assert (y != x[:, 0, 0, 0] % 10).sum() == 12
    assert (told(BASELINE, 1)[0] != x).any()
    clean = prepared(a_trial(), images, labels, 10)
    assert (clean[1] == clean[0][:, 0, 0, 0] % 10).all()
    assert (labels == np.arange(100) % 10).all()


def test_more_images_than_there_are_is_an_error_that_says_how_many():
    with pytest.raises(MetaplasticError, match="expected up to 50 training images, found 60"):
        prepared(a_trial(), np.zeros((50, 1, 1, 1), np.uint8), np.zeros(50, int), 10)


def test_epochs_to_a_target_by_hand():
    curve = [{"val_accuracy": accuracy} for accuracy in ("0.5", "0.7", "0.9")]
    assert epochs_to(0.4, curve) == 1  # or less
    assert epochs_to(0.75, curve) == pytest.approx(2.25)
    assert epochs_to(0.95, curve) is None


@pytest.mark.slow
@pytest.mark.usefixtures("on_all_made_data")
def test_a_study_is_trained_once_and_its_figures_are_those_of_the_last_epoch(tmp_path):
    tables = Tables(tmp_path / "results", "study")
    (group,) = Limits(parts=("clean",)).apply([dataclasses.replace(SMALL, rates=(0.03,))])
    work_through(functools.partial(plan, [group]), learn, tables, tmp_path / "work")
    done, curves = read_done(tables), read_curves(tables)
    assert len(done) == 4
    assert sorted(tmp_path.glob("work/*")) == [tmp_path / "work/results.lock"]
    for trial, row in done.items():
        curve = curves[trial.name]
        assert len(curve) == trial.epochs
        assert float(row["validation"]) == float(curve[-1]["val_accuracy"])
    (line,) = [line for line in lines([group], done) if line.rule == "consolidating"]
    assert line.seeds == 2
    assert line.difference("test").low <= line.difference("test").high
    before = tables.runs.read_bytes()
    work_through(functools.partial(plan, [group]), refuse, tables, tmp_path / "work")
    assert tables.runs.read_bytes() == before


@pytest.mark.usefixtures("on_all_made_data")
def test_a_try_does_not_read_the_test_set(tmp_path):
    trial = SMALL.trial("clean", "tuning", BASELINE, 1000, learning_rate=0.03)
    assert "test" not in learn(trial, tmp_path).figures


def refuse(trial, folder):
    raise AssertionError(f"{trial.name} is trained again")


def test_two_processes_share_the_work(tmp_path):
    tables = Tables(tmp_path / "results", "study")
    planned = functools.partial(plan, Limits(parts=("clean",)).apply([SMALL]))
    both_at_work = threading.Barrier(2, timeout=60)
    carried_out = []

    def carry_out(trial, folder):
        if trial.purpose == "tuning":
            both_at_work.wait()  # whoever is alone here waits in vain
        carried_out.append(trial)
        return figures(validation=trial.learning_rate, test=0.5)

    with ThreadPoolExecutor(2) as workers:
        started = [
            workers.submit(work_through, planned, carry_out, tables, tmp_path / "work")
            for _ in range(2)
        ]
        for worker in started:
            worker.result()
    assert len(carried_out) == len(set(carried_out)) == 8
    assert set(carried_out) == set(read_done(tables))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "architecture", "rule"),
    [
        ("permuted-mnist", "784-2000-2000-10", "synaptic intelligence"),
        ("mnist+fashion-mnist", "lenet", "pattern"),
    ],
)
@pytest.mark.usefixtures("on_all_made_data")
def test_tasks_in_turn_go_on_after_the_last_one_that_was_learned(
    dataset, architecture, rule, tmp_path, monkeypatch
):
    group = Group(dataset, architecture, "adam", {"two-tasks": Budget(40, 2)}, 1, (1e-3,))
    trial = group.trial("two-tasks", "report", rule, 0, learning_rate=1e-3, strength=0.1)
    for name in ("whole", "parted"):
        (tmp_path / name).mkdir()
    whole = learn_in_turn(trial, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", InterruptedBy("task 1"))
        with pytest.raises(KeyboardInterrupt):
            learn_in_turn(trial, tmp_path / "parted")
    parted = learn_in_turn(trial, tmp_path / "parted")
    assert parted.curve == whole.curve
    assert [(row["learned"], row["task"]) for row in parted.curve] == [(1, 1), (2, 1), (2, 2)]
    for figure in ("learned", "validation", "test_first", "test_last", "test"):
        assert parted.figures[figure] == whole.figures[figure]


class InterruptedBy(io.StringIO):
    """A terminal at which somebody presses Ctrl-C once it shows this."""

    def __init__(self, shown):
        super().__init__()
        self.shown = shown

    def write(self, text):
        if self.shown in text:
            raise KeyboardInterrupt
        return super().write(text)


@pytest.fixture(scope="module")
def all_made_data(made_data, tmp_path_factory):
    """The made digits under the names of all three data sets."""
    folder = tmp_path_factory.mktemp("data")
    with np.load(made_data / "mnist.npz") as digits:
        arrays = dict(digits)
    np.savez(folder / "mnist.npz", **arrays)
    np.savez(folder / "fashion_mnist.npz", **arrays)
    for part in ("x_train", "x_test"):
        arrays[part] = np.pad(arrays[part], ((0, 0), (2, 2), (2, 2)))[..., None].repeat(3, axis=3)
    np.savez(folder / "cifar10.npz", **arrays)
    return folder


@pytest.fixture
def on_all_made_data(all_made_data, monkeypatch):
    monkeypatch.setenv("METAPLASTIC_DATA", str(all_made_data))
    arrays_of.cache_clear()
    yield
    arrays_of.cache_clear()


@pytest.mark.slow
@pytest.mark.usefixtures("on_all_made_data")
def test_a_killed_study_goes_on_from_its_last_epoch(all_made_data, tmp_path, capfd):
    study = ["compare", "vgg", "--part", "1-block", "--images", "40", "--epochs", "3"]
    study += ["--results", str(tmp_path / "results"), "--studies", str(tmp_path / "work")]
    with subprocess.Popen(
        [sys.executable, "-m", "models", *study],
        cwd=ROOT,
        env={**os.environ, "METAPLASTIC_DATA": str(all_made_data)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stderr:
            if line.startswith("epoch 2/3"):
                process.kill()
    assert process.returncode == -signal.SIGKILL
    tables = Tables(tmp_path / "results", "vgg")
    assert not tables.runs.exists()
    (folder,) = (path for path in (tmp_path / "work/vgg").iterdir() if path.is_dir())
    note_hardware(folder, "another backend", "other hardware")
    assert main(study) == 0
    said = capfd.readouterr()
    assert "epoch 3/3" in said.err
    assert "epoch 1/3" not in said.err
    assert "1-block" in said.out
    ((trial, row),) = read_done(tables).items()
    assert row["backend"].endswith("; then another backend")
    assert row["hardware"].endswith("; then other hardware")
    assert [epoch["epoch"] for epoch in read_curves(tables)[trial.name]] == ["1", "2", "3"]


def test_a_part_that_there_is_not_is_refused_with_those_there_are(tmp_path, capsys):
    assert main(["compare", "vgg", "--part", "4-blocks", "--results", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "no part is called 4-blocks; there are: 1-block, 2-blocks" in message


@pytest.fixture(scope="module")
def made_docs(tmp_path_factory):
    """Pages of made-up rows, in which `consolidating` gains 2 points and `pattern` loses 2."""
    root = tmp_path_factory.mktemp("project")
    write_all(root / "docs/results")
    for file in ("README.md", "docs/brainprop.md", "docs/training.md"):
        (root / file).write_text((ROOT / file).read_text())
    shutil.copytree(ROOT / "docs/runs", root / "docs/runs")
    for study in ("metaplasticity", "vgg", "learning"):
        write_report(study, root / "docs", REPOSITORY)
    return root / "docs"


def test_the_page_says_helps_hurts_and_no_difference_where_the_intervals_do(made_docs):
    page = (made_docs / "metaplasticity.md").read_text()
    assert re.search(
        r"`consolidating`, accuracy on one task: of 20 comparisons it helps in 20, hurts in 0", page
    )
    assert re.search(
        r"`pattern`, accuracy on one task: of 20 comparisons it helps in 0, hurts in 20", page
    )
    assert re.search(r"`kernel`.* in (1[6-9]|20) no difference was found", page)
    kept = r"is \d\d\.\d % with the baseline; .* Synaptic Intelligence \d\d\.\d % \(helps, \+"
    assert len(re.findall(kept, page)) == 3
    for row in re.findall(r"\*\*helps\*\* (\S+) \((\S+) to (\S+)\)", page):
        mean, low, high = map(float, row)
        assert 0 < low <= mean <= high
    readme = (made_docs.parent / "README.md").read_text()
    assert "of 60 comparisons it helps in 20" in readme
    assert "(about 3 expected by chance)" in readme
    assert "mean accuracy after ten permuted MNIST tasks: baseline " in readme


def test_the_page_of_the_vgg_has_each_variant_beside_the_published_study(made_docs):
    page = (made_docs / "vgg.md").read_text()
    for name, variant in VARIANTS.items():
        assert re.search(rf"\| {name} \| 1 \|.*\| {variant.published} \|", page)
    assert re.search(r"batch-norm alone: \S+ \(.*\) points, one seed", page)
    assert "helps" not in page
    assert "`python -m models compare vgg` trains what is missing" in page


def test_the_page_of_a_larger_study_names_the_command_that_made_it(tmp_path):
    larger = Limits(seeds=2, epochs=30).apply(INGREDIENTS)
    write_made_results(Tables(tmp_path / "results", "vgg"), larger)
    page = vgg_page.page(tmp_path / "results", tmp_path / "images")
    command = "python -m models compare vgg --epochs 30 --seeds 2"
    assert f"`{command}` trains what is missing" in page
    assert re.search(r"batch-norm alone: (helps|hurts|no difference found), ", page)


def test_every_picture_and_file_of_a_page_is_there(made_docs):
    for page in ("metaplasticity.md", "vgg.md"):
        targets = re.findall(r"\]\(((?:images|results)/[^)]+)\)", (made_docs / page).read_text())
        assert len(targets) >= 3
        assert [target for target in targets if not (made_docs / target).exists()] == []


def test_the_same_rows_make_the_same_files(made_docs):
    files = sorted(path for path in made_docs.parent.rglob("*") if path.is_file())
    before = {path: path.read_bytes() for path in files}
    assert sum(path.suffix == ".svg" for path in files) == 4
    assert main(["report", "--docs", str(made_docs)]) == 0
    assert {path: path.read_bytes() for path in files} == before


def test_the_largest_budget_is_what_is_reported(tmp_path):
    tables = Tables(tmp_path, "vgg")
    write_made_results(tables, INGREDIENTS)
    larger = Limits(epochs=40, seeds=2).apply(INGREDIENTS)
    write_made_results(tables, larger)
    found = lines(INGREDIENTS, read_done(tables))
    assert {(line.epochs, line.seeds) for line in found} == {(40, 2)}


def test_a_larger_study_appears_once_it_is_as_far_as_the_smaller(tmp_path):
    tables = Tables(tmp_path, "vgg")
    write_made_results(tables, INGREDIENTS)
    write_made_results(tables, Limits(epochs=40, parts=("3-blocks", "all")).apply(INGREDIENTS))
    found = lines(INGREDIENTS, read_done(tables))
    assert {line.condition for line in found} == set(VARIANTS)
    assert {line.epochs for line in found} == {INGREDIENTS[0].conditions["all"].epochs}


def test_a_constant_at_the_edge_of_what_was_tried_is_marked(made_docs):
    page = (made_docs / "metaplasticity.md").read_text()
    assert re.search(
        r"\| mnist, lenet, adam \| 3 epochs on 10,000 images \| 0\.001 of 0\.0003,", page
    )
    assert re.search(r"\| permuted-mnist, .* \| 0\.001\* of 1e-05,", page)


def test_only_trials_of_one_backend_are_pairs(tmp_path):
    tables = Tables(tmp_path, "study")
    trained = [(BASELINE, 0, "torch"), (BASELINE, 1, "torch"), (BASELINE, 2, "jax")]
    trained += [("consolidating", seed, "torch") for seed in (0, 1, 2)]
    for rate in SMALL.rates:  # so that there is a choice of constants
        for seed in TUNING_SEEDS:
            trial = SMALL.trial("clean", "tuning", BASELINE, seed, learning_rate=rate)
            record(tables, trial, figures(validation=rate), tmp_path / "lock")
    for rule, seed, backend in trained:
        strength = 0.0 if rule == BASELINE else 3.0
        settings = {"learning_rate": max(SMALL.rates), "strength": strength}
        trial = SMALL.trial("clean", "report", rule, seed, **settings)
        record(tables, trial, figures(test=0.5, backend=backend), tmp_path / "lock")
    found = {line.rule: line for line in lines([SMALL], read_done(tables))}
    assert found["consolidating"].seeds == 2
    assert found[BASELINE].seeds == 3


def test_a_gain_is_paired_by_seeds_and_not_by_their_order(tmp_path):
    tables = Tables(tmp_path, "vgg")
    (group,) = [group for group in INGREDIENTS if "dropout" in group.conditions]
    tests = {"3-blocks": {0: 0.8, 2: 0.7, 3: 0.9}, "dropout": {0: 0.81, 1: 0.5, 3: 0.91}}
    for condition, by_seed in tests.items():
        for seed, test in by_seed.items():
            trial = group.trial(condition, "report", BASELINE, seed, learning_rate=group.rates[0])
            record(tables, trial, figures(test=test), tmp_path / "lock")
    found = {line.condition: line for line in lines(INGREDIENTS, read_done(tables))}
    assert gain(found["dropout"], found["3-blocks"]).mean == pytest.approx(0.01)


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_are_what_their_results_make(page, tmp_path):
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "README.md", tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write_report(page, tmp_path / "docs", REPOSITORY)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    changed = [path.name for path in after if after[path] != before.get(path)]
    assert changed == [], f"python -m models report {page} renews them"


def test_a_readme_without_the_mark_is_refused():
    with pytest.raises(MetaplasticError, match=r"README\.md has no line <!-- metaplast"):
        with_summary("# Nothing\n", ROOT / "docs/results")
