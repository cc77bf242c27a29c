"""export, publish, evaluate and list, on small runs."""

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import h5py
import numpy as np
import onnxruntime
import pytest

from models.__main__ import main
from models.cards import checksums, find_models, read_card, write_card
from models.packaging.export import agreement, keras_logits
from models.packaging.running import onnx_logits

pytestmark = [pytest.mark.usefixtures("on_made_data"), pytest.mark.slow]


@pytest.fixture(scope="module")
def published(made_data, runs, tmp_path_factory):
    """A repository with a model and its baseline. The options have their former names here."""
    repository = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAPLASTIC_DATA", str(made_data))
        for rule in ("backprop", "metaplastic"):
            control = ["--control", str(runs["backprop"])] if rule == "metaplastic" else []
            assert main(["publish", str(runs[rule]), "--shelf", str(repository), *control]) == 0
    return repository


@pytest.fixture
def repository(published, tmp_path):
    """A copy of it, for each test to change."""
    return Path(shutil.copytree(published, tmp_path / "weights"))


def test_a_published_model_has_its_files_its_test_scores_and_its_baseline(repository):
    folder = repository / "mnist" / "lenet" / "metaplastic" / "1"
    card = read_card(folder)
    assert {path.name for path in folder.iterdir()} == {
        *("model.keras", "model.onnx", "card.json"),
        *("history.csv", "curves.png", "confusion.png"),
    }
    baseline = read_card(repository / "mnist" / "lenet" / "backprop" / "1")
    assert (card.version, card.default, baseline.default) == (1, True, False)
    assert card.test.images == 100
    assert sum(map(sum, card.test.confusion)) == 100
    assert card.control.rule == "backprop"
    assert card.control.test_accuracy == baseline.test.accuracy
    assert card.control.seed == card.training.seed


def test_publishing_again_adds_a_version(repository, runs):
    assert (
        main(["publish", str(runs["backprop"]), "--repository", str(repository), "--default"]) == 0
    )
    versions = repository / "mnist" / "lenet" / "backprop"
    assert sorted(path.name for path in versions.iterdir()) == ["1", "2"]
    assert read_card(versions / "2").default


@pytest.mark.slow
def test_a_reader_never_sees_half_a_model(tmp_path, runs):
    repository, done, broken = tmp_path / "weights", threading.Event(), []
    repository.mkdir()

    def read_all_the_time():
        while not done.is_set():
            for folder, card in find_models(repository):
                missing = [name for name in card.files if not (folder / name).exists()]
                if missing or card.test is None:
                    broken.append((folder, missing))

    reader = threading.Thread(target=read_all_the_time)
    reader.start()
    try:
        for _ in range(2):
            assert main(["publish", str(runs["metaplastic"]), "--repository", str(repository)]) == 0
    finally:
        done.set()
        reader.join()
    assert broken == []
    assert len(list(find_models(repository))) == 2


def another_recipe(card):
    recipe = {**card.training.recipe, "learning_rate": 0.5}
    return dataclasses.replace(card, training=dataclasses.replace(card.training, recipe=recipe))


def another_network(card):
    return dataclasses.replace(card, parameters=card.parameters + 1)


def other_data(card):
    training = dataclasses.replace(card.training, data_sha256="0" * 64)
    return dataclasses.replace(card, training=training)


@pytest.mark.parametrize(
    ("change", "different"),
    [
        (another_recipe, "learning_rate"),
        (another_network, "parameters"),
        (other_data, "data"),
    ],
)
def test_a_baseline_that_is_none_is_refused_and_nothing_is_published(
    change, different, tmp_path, runs, capsys
):
    other = tmp_path / "other"
    shutil.copytree(runs["backprop"], other)
    write_card(other, change(read_card(other)))
    repository = tmp_path / "weights"
    arguments = ["publish", str(runs["metaplastic"]), "--repository", str(repository)]
    assert main([*arguments, "--baseline", str(other)]) == 1
    said = capsys.readouterr().err
    assert "is not the baseline of mnist-lenet-metaplastic" in said
    assert f"(different: {different})" in said
    assert not repository.exists()


def test_a_model_is_not_its_own_baseline(tmp_path, runs, capsys):
    for rule in ("metaplastic", "backprop"):
        arguments = ["publish", str(runs[rule]), "--repository", str(tmp_path / "weights")]
        assert main([*arguments, "--baseline", str(runs[rule])]) == 1
        assert f"found {rule} for {rule}" in capsys.readouterr().err


def test_a_model_trained_on_other_data_is_refused(tmp_path, runs, capsys):
    other = tmp_path / "other"
    shutil.copytree(runs["backprop"], other)
    card = read_card(other)
    training = dataclasses.replace(card.training, data_sha256="0" * 64)
    write_card(other, dataclasses.replace(card, training=training))
    assert main(["publish", str(other), "--repository", str(tmp_path / "weights")]) == 1
    assert "is not the data that the model was trained on" in capsys.readouterr().err
    assert list((tmp_path / "weights").iterdir()) == []


def test_an_export_can_be_made_again_and_takes_any_number_of_images(tmp_path, runs):
    folder = tmp_path / "run"
    shutil.copytree(runs["metaplastic"], folder)
    (folder / "model.onnx").unlink()
    card = read_card(folder)
    outdated = {**card.files, "model.onnx": "0" * 64}
    write_card(folder, dataclasses.replace(card, files=outdated))
    assert main(["export", str(folder)]) == 0
    assert read_card(folder).files == checksums(folder)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (image,) = session.get_inputs()
    for count in (1, 7):
        answers = session.run(None, {image.name: np.zeros((count, 28, 28, 1), np.float32)})
        assert answers[0].shape == (count, 10)


def test_both_files_of_a_run_agree(runs):
    images = np.random.default_rng(0).integers(0, 256, (64, 28, 28, 1), dtype=np.uint8)
    folder = runs["metaplastic"]
    found = agreement(keras_logits(folder, images), onnx_logits(folder, images))
    found.check()
    assert found.max_difference < 1e-5


def test_a_model_that_does_not_agree_is_not_published(tmp_path, runs):
    """A disagreement is a failure with figures, whichever way it came about."""
    folder = runs["metaplastic"]
    images = np.random.default_rng(0).integers(0, 256, (64, 28, 28, 1), dtype=np.uint8)
    logits = keras_logits(folder, images)
    with pytest.raises(Exception, match="does not agree"):
        agreement(logits, logits * 1.01).check()


@pytest.mark.slow
def test_the_keras_file_loads_without_this_project(runs, tmp_path):
    """`model.keras` is the source of truth: Keras alone must be able to read it."""
    script = (
        "import sys, keras, numpy; network = keras.saving.load_model(sys.argv[1]);"
        "print(network.predict(numpy.zeros((2, 28, 28, 1)), verbose=0).shape);"
        "print([name for name in sys.modules if name.split('.')[0] == 'models'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(runs["metaplastic"] / "model.keras")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["(2, 10)", "[]"]


def test_the_keras_file_holds_no_optimizer(runs):
    with zipfile.ZipFile(runs["metaplastic"] / "model.keras") as archive:
        assert json.loads(archive.read("config.json"))["compile_config"] == {}
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
            assert "optimizer" not in weights


def test_evaluate_finds_what_the_card_says(repository, capsys):
    assert main(["evaluate", "mnist", "lenet", "--repository", str(repository)]) == 0
    said = capsys.readouterr().out
    assert "mnist-lenet-metaplastic v1" in said
    assert "100 test" in said
    assert main(["evaluate", "--all", "--repository", str(repository)]) == 0


def test_evaluate_says_so_where_a_card_is_wrong(repository, capsys):
    folder = repository / "mnist" / "lenet" / "backprop" / "1"
    card = read_card(folder)
    write_card(folder, dataclasses.replace(card, test=dataclasses.replace(card.test, accuracy=0.5)))
    assert (
        main(["evaluate", "mnist", "lenet", "--rule", "backprop", "--repository", str(repository)])
        == 1
    )
    assert "DIFFERS" in capsys.readouterr().out


def test_evaluate_of_a_run_reads_the_validation_split(runs, capsys):
    assert main(["evaluate", str(runs["backprop"])]) == 0
    assert "60 validation" in capsys.readouterr().out


def test_list_shows_the_repository_and_the_runs(repository, runs, capsys):
    folder = runs["backprop"].parent
    assert main(["list", "--repository", str(repository), "--runs", str(folder)]) == 0
    said = capsys.readouterr().out
    assert said.count("mnist-lenet-metaplastic") >= 2
    assert "194,654" in said


def test_a_model_that_is_not_there_is_named(tmp_path, capsys):
    assert main(["evaluate", "mnist", "lenet", "--repository", str(tmp_path)]) == 1
    assert "python -m models list" in capsys.readouterr().err
