"""Training as a user runs it: the command, the folder it leaves, interruption, a terminal."""

import csv
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from concurrent.futures.process import BrokenProcessPool

import keras
import numpy as np
import pytest

from models.__main__ import main
from models.cards import read_card
from models.packaging.export import keras_logits
from models.packaging.running import onnx_logits
from models.training.build import build_learning, build_network
from models.training.epochs import kept_epoch, patience_is_over
from models.training.interruption import interrupted_between_steps
from models.training.recipes import recipe_for, recipe_from
from models.training.runs import claimed, note_hardware, read_history, start_run
from models.training.train import train

PATIENCE = 1800.0  # seconds, for a training beside others; a minute is usual
TRAIN = [sys.executable, "-m", "models", "train"]
# Two trainings in one process, which starts Keras once.
RESUME_AND_TRAIN = """
import sys
from models.__main__ import main

folder, *arguments = sys.argv[1:]
assert main(["train", "--resume", folder]) == 0
assert main(["train", *arguments]) == 0
"""


def training_process(made_data, arguments, **options):
    environment = {**os.environ, "METAPLASTIC_DATA": str(made_data)}
    return subprocess.Popen([*TRAIN, *arguments], env=environment, text=True, **options)


def test_a_run_leaves_everything_in_a_folder_named_after_its_parameters(runs):
    folder = runs["metaplastic"]
    assert re.fullmatch(r"mnist-lenet-metaplastic-e8-b8-v0\.2-s0-\d{8}-\d{6}", folder.name)
    assert {path.name for path in folder.iterdir()} == {
        *("model.keras", "model.onnx", "card.json"),
        *("history.csv", "curves.png", "confusion.png"),
    }
    for picture in ("curves.png", "confusion.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")


def test_the_history_has_a_row_for_each_epoch(runs):
    with (runs["metaplastic"] / "history.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [float(row["epoch"]) for row in rows] == list(range(1, 9))
    wanted = {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"}
    assert wanted <= rows[0].keys()


def test_the_card_says_how_to_make_the_model_again(runs):
    card = read_card(runs["metaplastic"])
    assert (card.dataset, card.architecture, card.rule) == ("mnist", "lenet", "metaplastic")
    assert card.training.command.startswith("python -m models train mnist lenet --rule metaplastic")
    assert "/" not in card.training.command  # it is public, and no path of this machine
    assert card.training.recipe["constants"]["rule"] in ("pattern", "kernel", "consolidating")
    assert read_card(runs["backprop"]).training.recipe["constants"] == {}
    assert card.training.recipe["batch_size"] == 8
    assert card.validation.images == 60
    assert card.test is None
    assert card.parameters == 194_654
    assert card.multiply_adds == 4_622_120


def test_the_network_learns(runs):
    assert read_card(runs["metaplastic"]).validation.accuracy > 0.9


@pytest.mark.slow
def test_both_rules_start_from_the_same_weights_and_see_the_same_images(made_data, tmp_path):
    """With the factor all but off, the first epoch is that of the baseline."""
    losses = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAPLASTIC_DATA", str(made_data))
        for rule, constants in (
            ("metaplastic", ["metaplastic.strength=1e-7"]),
            ("backprop", []),
        ):
            options = ["--rule", rule, "--epochs", "1", "--runs", str(tmp_path)]
            settings = [word for constant in constants for word in ("--set", constant)]
            assert main(["train", "mnist", "lenet", *options, *settings]) == 0
            folder = next(tmp_path.glob(f"*-{rule}-*"))
            losses[rule] = read_history(folder)[0]["loss"]
    assert losses["metaplastic"] == pytest.approx(losses["backprop"], rel=1e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("on_made_data")
def test_a_model_is_made_again_by_its_own_recipe(runs, tmp_path):
    like = read_card(runs["backprop"])
    assert main(["train", "--like", str(runs["backprop"]), "--runs", str(tmp_path)]) == 0
    (folder,) = tmp_path.iterdir()
    again = read_card(folder)
    assert again.training.recipe == like.training.recipe
    assert (again.name, again.validation) == (like.name, like.validation)


@pytest.mark.parametrize(
    ("schedule", "accuracies", "kept"),
    [
        ("cosine", [0.5, 0.9, 0.8], 3),
        ("halving", [0.5, 0.9, 0.8], 2),
        ("constant", [0.5, 0.9, 0.9, 0.8], 3),
    ],
)
def test_a_schedule_that_ends_at_0_keeps_its_last_epoch_and_any_other_its_best(
    schedule, accuracies, kept
):
    history = [
        {"epoch": float(epoch), "val_accuracy": accuracy}
        for epoch, accuracy in enumerate(accuracies, start=1)
    ]
    settings = {"schedule": schedule, "warmup": 0}
    assert kept_epoch(history, recipe_for("mnist", "lenet", "backprop", settings)) == kept


@pytest.mark.slow
@pytest.mark.usefixtures("on_made_data")
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_models_weights_are_those_of_the_epoch_that_is_kept(schedule, tmp_path):
    settings = ["--epochs", "4", "--set", f'schedule="{schedule}"', "--runs", str(tmp_path)]
    assert main(["train", "mnist", "lenet", *settings]) == 0
    (folder,) = tmp_path.iterdir()
    card, history = read_card(folder), read_history(folder)
    assert card.training.best_epoch == kept_epoch(history, recipe_from(card.training.recipe))
    kept = history[card.training.best_epoch - 1]
    assert card.validation.accuracy == pytest.approx(kept["val_accuracy"], abs=1e-6)


@pytest.mark.parametrize("rule", ["metaplastic", "backprop"])
def test_weight_decay_shrinks_kernels_and_nothing_else(rule, tmp_path):
    overrides = {"weight_decay": 0.5, "warmup": 0, "metaplastic.strength": 0}
    recipe = recipe_for("mnist", "lenet", rule, overrides)
    run = start_run(tmp_path, "mnist", "lenet", rule, recipe, "")
    network, optimizer = build_network(run), build_learning(run, 100).optimizer
    variables = network.trainable_variables
    for variable in variables:
        variable.assign(np.ones(variable.shape))
    optimizer.apply([np.zeros(v.shape, np.float32) for v in variables], variables)
    for variable in variables:
        shrunk = keras.ops.convert_to_numpy(variable).max() < 1
        assert shrunk == (variable.name == "kernel"), variable.path


def test_the_learning_rate_is_halved_after_whole_epochs(tmp_path):
    settings = {"schedule": "halving", "warmup": 0, "halve_every": 2, "learning_rate": 0.4}
    recipe = recipe_for("mnist", "lenet", "backprop", settings)
    run = start_run(tmp_path, "mnist", "lenet", "backprop", recipe, "")
    optimizer = build_learning(run, 10).optimizer
    rates = []
    for step in (0, 19, 20, 39, 40):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    assert rates == pytest.approx([0.4, 0.4, 0.2, 0.2, 0.1])


@pytest.mark.parametrize(
    ("accuracies", "patience", "over"),
    [
        ([], 1, False),
        ([0.5, 0.5, 0.5], 0, False),
        ([0.5, 0.5, 0.5], 2, True),
        ([0.5, 0.5, 0.5], 3, False),
        ([0.5, 0.501, 0.5], 2, False),  # a gain of 0.001 is one
        ([0.5, 0.5009, 0.5], 2, True),
        ([0.5, 0.5006, 0.5012, 0.501], 2, False),  # two small gains on the best that counted
        ([0.5, 0.6, 0.5, 0.55, 0.59], 3, True),
    ],
)
def test_patience_counts_the_epochs_since_the_last_gain(accuracies, patience, over):
    history = [{"val_accuracy": accuracy} for accuracy in accuracies]
    assert patience_is_over(history, patience) == over


@pytest.mark.slow
@pytest.mark.usefixtures("on_made_data")
def test_reward_learning_stops_when_its_patience_is_over_and_is_done_then(tmp_path, capsys):
    small = "network={maps = 4, hidden = 16, dropout = 0, he = true}"
    settings = ["--batch-size", "8", "--epochs", "40", "--validation", "0.2"]
    settings += ["--set", small, "--set", "patience=3"]
    command = ["train", "mnist", "conv", "--rule", "brainprop", "--runs", str(tmp_path)]
    assert main([*command, *settings]) == 0
    (folder,) = tmp_path.iterdir()
    card, history = read_card(folder), read_history(folder)
    assert 3 < len(history) < 40
    assert patience_is_over(history, 3)
    assert not patience_is_over(history[:-1], 3)
    best = max(row["val_accuracy"] for row in history)
    assert card.validation.accuracy == pytest.approx(best, abs=1e-6)
    assert best > 0.4  # of ten classes
    assert (card.rule, card.input.mean, card.input.std) == ("brainprop", (0,), (1,))
    assert card.calibration.ece_after <= card.calibration.ece_before


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["brainprop", "backprop"])
@pytest.mark.parametrize(
    ("architecture", "network"), [("dense", "widths = [32]"), ("loccon", "maps = 2, hidden = 8")]
)
@pytest.mark.usefixtures("on_made_data")
def test_networks_learn_by_reward_and_by_error(architecture, network, rule, tmp_path):
    command = ["train", "mnist", architecture, "--rule", rule, "--preset", "fast", "--epochs", "6"]
    settings = ["--set", f"network={{{network}, he = true}}", "--batch-size", "8"]
    settings += ["--set", "learning_rate=0.01"]  # few and easy images
    assert main([*command, *settings, "--runs", str(tmp_path)]) == 0
    (folder,) = tmp_path.iterdir()
    card = read_card(folder)
    assert (card.rule, card.training.recipe["preset"]) == (rule, "fast")
    assert card.validation.accuracy > 0.2  # of ten classes
    assert {"model.keras", "model.onnx"} <= {path.name for path in folder.iterdir()}


@pytest.mark.usefixtures("on_made_data")
def test_a_training_that_diverges_ends_with_what_to_try(tmp_path, capsys):
    command = ["train", "mnist", "dense", "--rule", "brainprop", "--runs", str(tmp_path)]
    settings = ["--set", "network={widths = [8]}", "--set", "learning_rate=1e30", "--epochs", "3"]
    assert main([*command, *settings]) == 1
    assert "has diverged. Try a lower learning_rate" in capsys.readouterr().err
    (folder,) = tmp_path.iterdir()
    assert not (folder / "card.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend", ["tensorflow", pytest.param("torch", marks=pytest.mark.needs("torch"))]
)
def test_an_interrupted_training_goes_on_as_if_it_had_not_stopped(
    backend, made_data, tmp_path, monkeypatch
):
    """The one with the most that could be lost.

    That is exploration, dropout, schedule, two optimizers and the weights that are averaged.
    """
    monkeypatch.setenv("KERAS_BACKEND", backend)
    arguments = ["mnist", "conv", "--rule", "brainprop", "--preset", "fast", "--seed", "3"]
    arguments += ["--epochs", "4", "--batch-size", "50", "--set", "brainprop.epsilon=0.5"]
    arguments += ["--set", "brainprop.metaplastic={rule = 'consolidating', strength = 3}"]
    arguments += ["--set", "network={maps = 4, hidden = 16, he = true}"]
    arguments += ["--set", "average=3", "--set", "floor=0.1"]
    stopped = training_process(
        made_data,
        [*arguments, "--runs", str(tmp_path / "stopped")],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    for line in stopped.stderr:  # read until the second epoch is over
        if line.startswith("epoch 2/4"):
            break
    stopped.send_signal(signal.SIGINT)
    said = stopped.stderr.read()
    assert stopped.wait(timeout=PATIENCE) == 130
    stopped.stderr.close()
    folder = next((tmp_path / "stopped").iterdir())
    assert f"continue with: python -m models train --resume {folder}" in said
    assert len(read_history(folder)) in (2, 3)
    assert not (folder / "card.json").exists()

    straight = [*arguments, "--runs", str(tmp_path / "straight")]
    both = subprocess.run(
        [sys.executable, "-c", RESUME_AND_TRAIN, str(folder), *straight],
        env={**os.environ, "METAPLASTIC_DATA": str(made_data)},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert both.returncode == 0, both.stderr
    (whole,) = (tmp_path / "straight").iterdir()
    for expected, found in zip(read_history(whole), read_history(folder), strict=True):
        for name in ("loss", "val_loss"):
            # Threads may add up in another order each time: equal but for that.
            assert found[name] == pytest.approx(expected[name], rel=1e-3)
    weights = [
        keras.saving.load_model(path / "model.keras").get_weights() for path in (whole, folder)
    ]
    for expected, found in zip(*weights, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-3)
    assert main(["train", "--resume", str(folder)]) == 1  # finished: says so


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def number(request):
    """A signal that raises KeyboardInterrupt, as the command has it."""
    before = signal.signal(request.param, signal.default_int_handler)
    yield request.param
    assert signal.signal(request.param, before) is signal.default_int_handler


def test_a_signal_ends_a_training_after_the_current_step(number):
    steps = []

    def fit():
        with interrupted_between_steps() as interruption:
            for step in range(5):
                if step == 2:
                    signal.raise_signal(number)
                steps.append(step)
                interruption.on_train_batch_end(step)

    with pytest.raises(KeyboardInterrupt):
        fit()
    assert steps == [0, 1, 2]


def test_a_signal_that_ends_the_preparing_processes_first_is_no_failure(number):
    def fit(interrupt):
        with interrupted_between_steps():
            if interrupt:
                signal.raise_signal(number)
            raise BrokenProcessPool

    with pytest.raises(KeyboardInterrupt):
        fit(interrupt=True)
    with pytest.raises(BrokenProcessPool):
        fit(interrupt=False)


@pytest.mark.slow
def test_a_run_is_trained_by_one_process_at_a_time(made_data, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("METAPLASTIC_DATA", str(made_data))
    arguments = ["mnist", "lenet", "--epochs", "50", "--runs", str(tmp_path)]
    first = training_process(
        made_data, arguments, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        for line in first.stderr:
            if line.startswith("epoch 1/50"):
                break
        (folder,) = tmp_path.iterdir()
        assert main(["train", "--resume", str(folder)]) == 1
        assert "is being trained by another process" in capsys.readouterr().err
    finally:
        first.kill()
        first.wait()
        first.stderr.close()
    assert len(read_history(folder)) < 50
    history = (folder / "history.csv").read_text()
    with claimed(folder):  # nothing of a dead process is in the way
        assert (folder / "history.csv").read_text() == history


def test_a_card_names_every_backend_and_machine_of_its_training(made_data, tmp_path, monkeypatch):
    monkeypatch.setenv("METAPLASTIC_DATA", str(made_data))
    recipe = recipe_for("mnist", "lenet", "backprop", {"epochs": 1, "network.kernels": [4, 6]})
    run = start_run(tmp_path, "mnist", "lenet", "backprop", recipe, "")
    note_hardware(run.folder, "jax, Keras 3", "a GPU")
    training = train(run).training
    assert training.backend == f"jax, Keras 3; then tensorflow, Keras {keras.version()}"
    assert training.hardware.startswith("a GPU; then ")
    assert {path.suffix for path in run.folder.iterdir()} == {
        *(".keras", ".onnx", ".json", ".csv", ".png")
    }


@pytest.mark.slow
def test_a_terminal_shows_a_bar_with_epoch_step_loss_accuracy_and_time_left(made_data, tmp_path):
    master, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (40, 160))
    arguments = ["mnist", "lenet", "--epochs", "2", "--batch-size", "30", "--runs", str(tmp_path)]
    process = training_process(made_data, arguments, stderr=terminal, stdout=subprocess.DEVNULL)
    os.close(terminal)
    shown = bytearray()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            part = os.read(master, 4096)
        except OSError:  # Linux' way to say that the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(master)
    assert process.wait(timeout=PATIENCE) == 0
    bars = shown.decode().split("\r")
    bar = r"epoch 2/2: +\d+%.*<\d\d:\d\d.*step \d+/9, loss \d\.\d+, accuracy \d\.\d+"
    assert any(re.search(bar, text) for text in bars), shown.decode()[-2000:]


@pytest.mark.slow
def test_without_a_terminal_there_is_a_plain_line_for_each_epoch(made_data, tmp_path):
    arguments = ["mnist", "lenet", "--epochs", "2", "--runs", str(tmp_path)]
    process = training_process(made_data, arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "\r" not in err
    lines = [line for line in err.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 2
    assert re.fullmatch(
        r"epoch 2/2  loss \d\.\d+  accuracy \d\.\d+  val_loss \d\.\d+  val_accuracy \d\.\d+  "
        r"00:00 left",
        lines[1],
    )
    assert "validation images" in out


@pytest.mark.slow
@pytest.mark.usefixtures("on_made_data")
def test_the_pattern_rule_weights_each_image(tmp_path):
    arguments = ["train", "mnist", "lenet", "--epochs", "1", "--runs", str(tmp_path)]
    assert main([*arguments, "--set", "metaplastic.rule='pattern'"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["letters", "lenet"], "no data set is called 'letters'"),
        (["mnist", "resnet"], "no architecture is called 'resnet'"),
        (["mnist", "lenet", "--validation", "1.5"], "validation: expected between 0 and 1"),
        (["mnist", "lenet", "--epochs", "0"], "epochs: expected 1 or more, found 0"),
        (["mnist", "lenet", "--set", "speed=3"], "unknown settings speed"),
        (["mnist", "lenet", "--set", "optimizer=3"], "optimizer: expected one of sgd, adam"),
        (["mnist", "lenet", "--set", "metaplastic.strength=-1"], "strength: expected a number"),
        (["--resume", "nowhere"], "nowhere holds no unfinished training"),
    ],
)
@pytest.mark.usefixtures("on_made_data")
def test_what_cannot_be_trained_is_refused_at_once(arguments, message, tmp_path, capsys):
    assert main(["train", *arguments, "--runs", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("on_made_data")
def test_a_mirrored_run_is_measured_and_counted_as_it_is_served(tmp_path):
    arguments = ["train", "mnist", "lenet", "--epochs", "1", "--runs", str(tmp_path)]
    assert main([*arguments, "--set", "mirror=true"]) == 0
    (folder,) = tmp_path.iterdir()
    card = read_card(folder)
    assert card.multiply_adds == 2 * 4_622_120
    assert card.parameters == 194_654
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), dtype=np.uint8)
    for answers in (keras_logits, onnx_logits):
        np.testing.assert_allclose(
            answers(folder, images), answers(folder, images[:, :, ::-1]), atol=1e-5
        )
