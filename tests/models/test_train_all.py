"""`train-all`: what is missing or out of date gets trained, what is there does not."""

import pytest

from models.__main__ import main
from models.cards import find_models, read_card
from models.training import recipes
from models.training.runs import start_run

RECIPES = """
[defaults]
rules = ["metaplastic", "backprop"]
epochs = 1
batch_size = 50
validation = 0.2
seed = 0
optimizer = "sgd"
learning_rate = 0.01
warmup = 0.0
schedule = "constant"
weight_decay = 0.0
label_smoothing = 0.0
metaplastic = { rule = "kernel", strength = 0.5 }

[mnist.lenet]
network = { kernels = [4, 6], dense = [12] }
"""


@pytest.fixture
def train_all(tmp_path, monkeypatch, capsys, on_made_data):
    """The command on a small recipes.toml; `settings` are appended to the file, `options` to it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipes, "RECIPES", tmp_path / "recipes.toml")

    def call(settings="", *options):
        (tmp_path / "recipes.toml").write_text(RECIPES + settings)
        assert main(["train-all", *options]) == 0
        return capsys.readouterr().out

    return call


def trained(folder="runs"):
    return sorted(card.name for _, card in find_models(folder))


def test_every_recipe_is_trained_with_its_twin_and_then_there(train_all):
    table = train_all()
    assert trained("runs") == ["mnist-lenet-backprop", "mnist-lenet-metaplastic"]
    assert table.count("trained now") == 2
    again = train_all()
    assert len(trained("runs")) == 2
    assert "trained now" not in again
    assert "1 of 2" not in again
    assert again.count("runs/mnist-lenet-") == 2


def test_a_changed_recipe_is_trained_again_and_only_that(train_all):
    train_all()
    table = train_all("[mnist.lenet.metaplastic]\nrule = 'kernel'\nstrength = 0.1\n")
    assert table.count("trained now") == 1
    assert trained().count("mnist-lenet-metaplastic") == 2
    assert trained().count("mnist-lenet-backprop") == 1


def test_a_published_model_is_not_trained_again(train_all, tmp_path):
    train_all()
    for folder, card in list(find_models(tmp_path / "runs")):
        if card.rule == "backprop":
            assert main(["publish", str(folder)]) == 0
            (folder / "card.json").unlink()
    table = train_all()
    assert "trained now" not in table
    assert "weights/mnist/lenet/backprop/1" in table


def test_a_preset_is_a_model_of_its_own_and_can_be_trained_alone(train_all, tmp_path, capsys):
    preset = "[mnist.lenet.presets.quick]\nlearning_rate = 0.02\n"
    table = train_all(preset, "--preset", "quick", "--rule", "backprop")
    assert "mnist-lenet-backprop (quick)" in table
    ((folder, card),) = find_models("runs")
    assert folder.name.startswith("mnist-lenet-backprop-quick-e1-")
    assert (
        card.training.command == "python -m models train mnist lenet --rule backprop --preset quick"
    )
    assert card.training.recipe["preset"] == "quick"
    assert card.training.recipe["learning_rate"] == 0.02
    table = train_all(preset)
    assert table.count("trained now") == 3
    assert trained().count("mnist-lenet-backprop") == 2
    assert main(["train-all", "--preset", "slow"]) == 1
    assert "has no model of this rule and preset" in capsys.readouterr().err


def test_an_unfinished_run_is_gone_on_with(train_all, tmp_path):
    (tmp_path / "recipes.toml").write_text(RECIPES)
    recipe = recipes.recipe_for("mnist", "lenet", "backprop")
    run = start_run(tmp_path / "runs", "mnist", "lenet", "backprop", recipe, "begun by hand")
    train_all()
    assert read_card(run.folder).training.command == "begun by hand"
    assert len(trained()) == 2


def test_a_recipe_whose_teacher_is_not_there_is_not_begun(train_all, tmp_path, capsys):
    taught = "[mnist.lenet.presets.taught]\nteachers = ['weights/mnist/vgg/metaplastic/9']\n"
    (tmp_path / "recipes.toml").write_text(RECIPES + taught)
    assert main(["train-all", "--preset", "taught"]) == 1
    assert "weights/mnist/vgg/metaplastic/9 cannot teach" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
