"""Distillation: a network learns from a teacher, and its card says from which."""

import dataclasses

import keras
import numpy as np
import pytest

from models.__main__ import main
from models.calibration import softmax
from models.cards import checksums, read_card, write_card
from models.packaging.running import onnx_logits
from models.training.distillation import DistillationLoss, TeacherError, teacher
from models.training.recipes import RecipeError, recipe_for

pytestmark = pytest.mark.usefixtures("on_made_data")


def recipe_of(*teachers, **settings):
    return recipe_for(
        "mnist", "lenet", "backprop", {"teachers": list(map(str, teachers)), **settings}
    )


def test_the_loss_is_that_of_the_labels_and_of_the_soft_answers_in_their_shares():
    random = np.random.default_rng(0)
    logits = random.normal(size=(5, 4)).astype(np.float32)
    labels = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0]]
    soft = softmax(random.normal(size=(5, 4))).astype(np.float32)
    loss = DistillationLoss(keras.losses.CategoricalCrossentropy(from_logits=True), 0.7, 2.0)
    pairs, outputs = map(keras.ops.convert_to_tensor, (np.stack([labels, soft], 1), logits))
    found = keras.ops.convert_to_numpy(loss.call(pairs, outputs))
    hard = -np.log(softmax(logits))[labels == 1]
    taught = -(soft * np.log(softmax(logits / 2))).sum(axis=1)
    np.testing.assert_allclose(found, 0.3 * hard + 0.7 * 4 * taught, rtol=1e-5)
    again = DistillationLoss.from_config(loss.get_config())
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(again.call(pairs, outputs)), found)


def test_a_teachers_answers_are_its_calibrated_ones_at_the_recipes_temperature(runs):
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28, 1), dtype=np.uint8)
    answer = teacher(recipe_of(runs["backprop"], teacher_temperature=3.0), "mnist")
    temperature = read_card(runs["backprop"]).calibration.temperature
    expected = softmax(onnx_logits(runs["backprop"], images) / (3 * temperature))
    np.testing.assert_allclose(answer(images.astype(np.float32) / 255), expected, atol=1e-5)


def test_several_teachers_answer_with_their_mean(runs):
    images = np.random.default_rng(0).random((4, 28, 28, 1), np.float32)
    both = [teacher(recipe_of(run), "mnist")(images) for run in runs.values()]
    together = teacher(recipe_of(*runs.values()), "mnist")(images)
    np.testing.assert_allclose(together, np.mean(both, axis=0), atol=1e-6)


@pytest.mark.slow
def test_a_teacher_that_averages_over_the_mirror_image_answers_the_image_alone(tmp_path):
    command = ["train", "mnist", "lenet", "--epochs", "1", "--runs", str(tmp_path)]
    assert main([*command, "--set", "mirror=true", "--set", "network.kernels=[4, 6]"]) == 0
    (folder,) = tmp_path.iterdir()
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), dtype=np.uint8)
    answer = teacher(recipe_of(folder, teacher_temperature=1.0), "mnist")
    pixels = images.astype(np.float32) / 255
    own, other = answer(pixels), answer(pixels[:, :, ::-1])
    assert np.abs(own - other).max() > 1e-3
    together = softmax((np.log(own) + np.log(other)) / 2)
    temperature = read_card(folder).calibration.temperature
    served = softmax(onnx_logits(folder, images) / temperature)
    np.testing.assert_allclose(together, served, atol=1e-4)


def test_without_teachers_there_is_none():
    assert teacher(recipe_of(), "mnist") is None


def test_what_cannot_teach_is_refused(tmp_path, runs, capsys):
    with pytest.raises(TeacherError, match="nowhere cannot teach: expected a finished run"):
        teacher(recipe_of("nowhere"), "mnist")
    with pytest.raises(TeacherError, match="cannot teach cifar10: it was trained on mnist"):
        teacher(recipe_of(runs["backprop"]), "cifar10")
    command = ["train", "mnist", "lenet", "--teacher", "nowhere", "--runs", str(tmp_path)]
    assert main(command) == 1
    assert "nowhere cannot teach" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("setting", [{"teachers": ["runs/x"]}, {"augment": {"mixup": 0.2}}])
def test_reward_learning_is_told_nothing_but_its_reward(setting):
    with pytest.raises(RecipeError, match="reward"):
        recipe_for("mnist", "conv", "brainprop", setting)
    recipe_for("mnist", "conv", "backprop", setting)


@pytest.fixture(scope="module")
def taught(made_data, runs, tmp_path_factory):
    """Twins that the plain run taught, and the same metaplastic training without it."""
    root = tmp_path_factory.mktemp("taught")
    settings = ["--epochs", "3", "--batch-size", "8", "--validation", "0.2", "--runs", str(root)]
    settings += ["--set", "learning_rate=0.01", "--set", "network.kernels=[4, 6]"]
    teaching = ["--teacher", str(runs["backprop"]), "--set", "augment={mixup=0.2}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAPLASTIC_DATA", str(made_data))
        for rule in ("metaplastic", "backprop"):
            assert main(["train", "mnist", "lenet", "--rule", rule, *settings, *teaching]) == 0
        found = {
            rule: next(root.glob(f"mnist-lenet-{rule}-*")) for rule in ("metaplastic", "backprop")
        }
        alone = [*settings[:-2], "--set", "network.kernels=[4, 6]", *teaching[2:]]
        alone[alone.index(str(root))] = str(root / "alone")
        assert main(["train", "mnist", "lenet", *alone]) == 0
    return {**found, "without": next((root / "alone").iterdir())}


@pytest.mark.slow
def test_a_taught_network_learns_and_its_card_names_its_teacher(taught, runs):
    card = read_card(taught["metaplastic"])
    assert card.validation.accuracy > 0.5
    (told,) = card.distillation.teachers
    known = read_card(runs["backprop"])
    assert (told.name, told.validation_accuracy) == (known.name, known.validation.accuracy)
    assert told.sha256 == checksums(runs["backprop"])["model.keras"]
    assert told.test_accuracy is None


@pytest.mark.slow
def test_a_published_card_has_the_accuracies_with_and_without_and_the_teachers_card_is_kept(
    taught, runs, tmp_path
):
    repository, docs = tmp_path / "weights", tmp_path / "docs"
    options = ["--baseline", str(taught["backprop"]), "--without", str(taught["without"])]
    options += ["--repository", str(repository), "--docs", str(docs)]
    assert main(["publish", str(taught["metaplastic"]), *options]) == 0
    card = read_card(repository / "mnist" / "lenet" / "metaplastic" / "1")
    without = read_card(taught["without"])
    assert card.distillation.without.rule == "metaplastic"
    assert card.distillation.without.validation_accuracy == without.validation.accuracy
    assert 0 < card.distillation.without.test_accuracy <= 1
    assert card.control.rule == "backprop"
    kept = docs / "runs" / "mnist-lenet-backprop-teacher-v1"
    assert read_card(kept) == read_card(runs["backprop"])
    assert (kept / "history.csv").exists()


@pytest.mark.slow
def test_a_run_without_the_teacher_is_no_baseline(taught, tmp_path, capsys):
    command = ["publish", str(taught["metaplastic"]), "--repository", str(tmp_path / "weights")]
    assert main([*command, "--baseline", str(taught["without"])]) == 1
    other = tmp_path / "other"
    other.mkdir()
    for path in taught["without"].iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    card = read_card(other)
    recipe = {**card.training.recipe, "seed": 5}
    write_card(
        other,
        dataclasses.replace(card, training=dataclasses.replace(card.training, recipe=recipe)),
    )
    capsys.readouterr()
    assert main([*command, "--without", str(other)]) == 1
    assert "is not the same training without teachers (different: seed)" in capsys.readouterr().err
    assert main([*command, "--without", str(taught["backprop"])]) == 1
    assert "expected a run without teachers" in capsys.readouterr().err
