"""Challengers on a small model: what a run leaves behind, alone, beside others, and when killed."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from app.catalogue.load import load_catalogue
from app.settings import Settings as ServiceSettings
from models.__main__ import main
from models.aliases import Aliases, promote, read_aliases, set_aliases
from models.cards import find_models, read_card
from models.data.datasets import load
from models.learning.challenger import LearnError
from models.learning.gates import FAILED
from models.learning.learner import Settings
from models.learning.run import REFUSED, ROLLED_BACK, find_model, judge, learn_once
from models.learning.vote_arrays import UNKNOWN
from models.learning.watch import learn_from_store, one_look
from models.packaging.running import onnx_logits
from models.votes import (
    CHALLENGER,
    Both,
    Prediction,
    close_store,
    delete_key,
    events,
    keep_predictions,
    open_store,
    record_vote,
)
from tests.backends import FASTEST
from tests.models.made_votes import made_votes, predictions

pytestmark = [pytest.mark.usefixtures("on_made_data"), pytest.mark.slow]

QUICK = Settings(steps=10)
# A learner whose training is quick.
LEARN = """
import sys
from pathlib import Path
from models.learning.learner import Settings
from models.learning.watch import learn_from_store
from models.votes import open_store

learn_from_store(Path(sys.argv[1]), open_store(sys.argv[2]), Settings(steps=10))
"""


@pytest.fixture(scope="module")
def published(made_data, runs, tmp_path_factory):
    repository = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAPLASTIC_DATA", str(made_data))
        assert main(["publish", str(runs["metaplastic"]), "--repository", str(repository)]) == 0
    return repository


@pytest.fixture
def folder(published, tmp_path):
    """The folder of a model's versions, in a repository of its own."""
    repository = Path(shutil.copytree(published, tmp_path / "weights"))
    return repository / "mnist/lenet/metaplastic"


def votes_on(folder, count=150, **others):
    """Labelled votes on dark versions of the made test images."""
    arrays = load("mnist")
    images = np.resize(arrays.x_test[:], (count, 28, 28, 1)) // 3
    classes = np.resize(arrays.y_test, count)
    answers = onnx_logits(folder / "1", images).argmax(axis=1)
    return made_votes(answers, answers == classes, classes, images=images, **others)


def test_a_challenger_is_a_version_with_a_card_that_says_what_it_learned_from(folder):
    outcome = learn_once(find_model(folder), votes_on(folder), QUICK)
    made = read_card(folder / str(outcome.version))
    parent = read_card(folder / "1")
    assert outcome.version == made.version == 2
    assert (made.learned.parent, made.learned.votes, made.learned.labels) == (1, 120, 120)
    assert made.learned.parent_sha256 == parent.files["model.keras"]
    assert made.learned.days == ("1970-01-01", "1970-01-01")
    assert made.learned.settings["steps"] == 10
    assert made.learned.home == "240 training images"
    assert made.test is None
    assert made.calibration != parent.calibration
    assert {path.name for path in (folder / "2").iterdir()} >= {"model.keras", "model.onnx"}


def test_a_challenger_without_proof_that_nothing_is_lost_at_home_answers_nobody(folder):
    outcome = learn_once(find_model(folder), votes_on(folder), QUICK)
    assert outcome.said == REFUSED  # 60 validation images prove nothing
    assert [(v.gate, v.verdict) for v in outcome.verdicts] == [("home", FAILED)]
    assert read_aliases(folder) == Aliases(champion=1)


def test_a_refused_challenger_does_not_become_champion_when_the_aliases_are_lost(folder):
    votes = votes_on(folder)
    assert learn_once(find_model(folder), votes, QUICK).said == REFUSED
    (folder / "aliases.json").unlink()
    judge(find_model(folder), votes)
    assert read_aliases(folder) == Aliases(champion=1)
    (folder / "aliases.json").write_text("{")
    endpoint = load_catalogue(ServiceSettings(weights=folder.parents[2])).endpoints["mnist/lenet"]
    assert endpoint.find(None).card.version == 1


def test_a_champion_whose_version_was_removed_gives_way_to_the_published_one(folder):
    set_aliases(folder, champion=7)
    assert learn_once(find_model(folder), votes_on(folder), QUICK).said == REFUSED
    assert read_aliases(folder).champion == 1


def test_it_starts_from_the_published_version_each_time_and_old_challengers_go(folder):
    votes = votes_on(folder)
    first = learn_once(find_model(folder), votes, QUICK)
    before = onnx_logits(folder / str(first.version), votes.images)
    second = learn_once(find_model(folder), votes, QUICK)
    assert np.array_equal(before, onnx_logits(folder / str(second.version), votes.images))
    assert sorted(card.version for _, card in find_models(folder)) == [1, second.version]


def test_withdrawn_votes_are_gone_with_the_next_challenger(folder):
    votes = votes_on(folder)
    honest = votes[:120]
    alone = onnx_logits(
        folder / str(learn_once(find_model(folder), honest, QUICK).version), votes.images
    )
    learn_once(find_model(folder), votes, QUICK)
    again = learn_once(find_model(folder), honest, QUICK)
    assert np.array_equal(alone, onnx_logits(folder / str(again.version), votes.images))


def test_without_the_data_set_home_npz_takes_its_place(folder, monkeypatch):
    repository = folder.parents[2]
    command = ["learn", "mnist/lenet", "--repository", str(repository)]
    assert main([*command, "--pack-home"]) == 0
    monkeypatch.delenv("METAPLASTIC_DATA")
    votes = made_votes(np.zeros(150, int), images=np.zeros((150, 28, 28, 1), np.uint8))
    outcome = learn_once(find_model(folder), votes, QUICK)
    assert read_card(folder / str(outcome.version)).learned.home == "240 images of home.npz"
    assert outcome.verdicts[0].votes == 60


def test_without_any_home_images_nothing_is_promoted(folder, monkeypatch):
    votes = votes_on(folder)
    monkeypatch.delenv("METAPLASTIC_DATA")
    outcome = learn_once(find_model(folder), votes, QUICK)
    made = read_card(folder / str(outcome.version)).learned
    assert (made.home, made.settings["rule"]) == ("none", "consolidating")
    assert (outcome.said, outcome.verdicts[0].votes) == (REFUSED, 0)


def test_a_champion_that_gets_fewer_thumbs_up_is_rolled_back(folder):
    learn_once(find_model(folder), votes_on(folder), QUICK)
    set_aliases(folder, challenger=2)
    promote(folder)
    newer = np.arange(400) >= 200
    rewards = np.where(newer, np.arange(400) % 2, 1)
    votes = made_votes(np.zeros(400, int), rewards, UNKNOWN, versions=1 + newer)
    outcome = learn_once(find_model(folder), votes, QUICK)
    assert (outcome.said, outcome.version) == (ROLLED_BACK, 2)
    assert read_aliases(folder) == Aliases(champion=1)


def fill(store, folder, count=120):
    """Store `count` labelled votes of twelve keys."""
    votes = votes_on(folder, count)
    now = time.time()
    for place in range(count):
        answer = int(votes.answers[place])
        keep_predictions(
            store,
            [
                Prediction(
                    *(f"{place}", "mnist", "lenet", "metaplastic", 1, answer, "key:a"),
                    *(now, now + 3600, votes.images[place]),
                    both=Both(1, answer, 2, answer) if place % 2 else None,
                )
            ],
        )
        voter = f"key:user{place % 12}"
        record_vote(store, f"{place}", voter=voter, label=int(votes.labels[place]))


@pytest.fixture
def url(folder, tmp_path):
    """The URL of a store with votes."""
    url = f"sqlite:///{tmp_path / 'votes.db'}"
    with contextlib.closing(_Closing(open_store(url))) as one:
        fill(one.store, folder)
    return url


@dataclasses.dataclass
class _Closing:
    store: object

    def close(self):
        close_store(self.store)


def learner(folder, url, *more):
    """Start `python -m models learn` in a process of its own."""
    variables = {"METAPLASTIC_FEEDBACK": url, "METAPLASTIC_WEIGHTS": str(folder.parents[2])}
    variables["KERAS_BACKEND"] = FASTEST
    return process_of("-m", "models", "learn", "mnist/lenet", *more, **variables)


def quick_learner(folder, url):
    return process_of("-c", LEARN, str(folder), url)


def process_of(*command, **variables):
    return subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_the_command_learns_and_records_what_the_gates_found(folder, url):
    process = learner(folder, url)
    said = process.communicate(timeout=300)[0].decode()
    assert process.returncode == 0, said
    assert "version 2: refused (home failed" in said
    with contextlib.closing(_Closing(open_store(url))) as one:
        (made,) = events(one.store, "mnist", "lenet", kind=CHALLENGER)
    assert (made.content["version"], made.content["outcome"]) == (2, "refused")
    assert made.content["gates"][0]["gate"] == "home"
    assert json.dumps(made.content)


def wait_for(done, process):
    deadline = time.monotonic() + 300
    while not done():
        assert process.poll() is None or done(), process.communicate()[0].decode()
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)  # between two looks


def test_a_killed_learner_leaves_no_half_challenger_and_the_next_one_works(folder, url):
    moments = (".learning.lock", ".learning-2", ".learning-2/model.keras", "2")
    for moment in moments:
        process = quick_learner(folder, url)
        wait_for(lambda moment=moment: (folder / moment).exists(), process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert read_aliases(folder) in (Aliases(), Aliases(champion=1)), moment
        for path, card in find_models(folder):
            assert {*card.files} <= {file.name for file in path.iterdir()}, moment
        if moment == "2":
            shutil.rmtree(folder / "2", ignore_errors=True)
    assert learn_once(find_model(folder), votes_on(folder), QUICK).version == 2
    assert not list(folder.glob(".learning-*"))


def test_two_learners_of_one_model_exclude_each_other(folder, url):
    first = quick_learner(folder, url)
    wait_for((folder / ".learning-2").exists, first)
    with pytest.raises(LearnError, match="another learner works on this model"):
        learn_once(find_model(folder), votes_on(folder), QUICK)
    said = first.communicate(timeout=300)[0].decode()
    assert first.returncode == 0, said


def test_a_watching_learner_learns_when_votes_came_and_stops_when_told(folder, url):
    process = learner(folder, url, "--watch", "--every", "0.5")
    wait_for((folder / "2").exists, process)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=300)[0].decode()
    assert process.returncode == 0, said
    assert "version 2: refused" in said


def test_votes_about_a_network_with_other_images_do_not_stop_the_learner(folder, url):
    store = open_store(url)
    now = time.time()
    pixels = np.zeros((32, 32, 3), np.uint8)
    keep_predictions(
        store,
        [
            Prediction(
                id="old.0",
                dataset="mnist",
                architecture="lenet",
                rule="metaplastic",
                version=1,
                answer=1,
                asker="key:a",
                made=now,
                expires=now + 60,
                pixels=pixels,
            )
        ],
    )
    record_vote(store, "old.0", voter="key:a", reward=1)
    outcome = learn_from_store(folder, store, QUICK)
    close_store(store)
    assert outcome.said == REFUSED


def test_after_a_deletion_new_votes_count_from_the_last_challenger_on(folder, url):
    store = open_store(url)
    assert learn_from_store(folder, store, QUICK).said == REFUSED
    said = []
    assert one_look(folder, store, QUICK, False, said.append) == []  # all are learned from
    assert delete_key(store, "key:a") == 120  # who asked for them
    keep_predictions(store, predictions(100))
    for place in range(100):
        record_vote(store, f"{place}", voter=f"key:user{place % 12}", label=1)
    (outcome,) = one_look(folder, store, QUICK, False, said.append)
    close_store(store)
    assert (outcome.said, said) == (REFUSED, [])


def test_too_few_votes_are_an_error_that_says_how_many(folder):
    with pytest.raises(LearnError, match="20 votes: expected 100 or more"):
        learn_once(find_model(folder), votes_on(folder, 20), QUICK)


@pytest.mark.parametrize(
    ("arguments", "feedback", "told"),
    [
        (["learn", "mnist/nothing"], "sqlite:///x.db", "has no model mnist/nothing"),
        (["learn", "mnist/lenet"], "", "METAPLASTIC_FEEDBACK is not set"),
    ],
)
def test_a_wrong_command_says_what_to_do(folder, arguments, feedback, told, monkeypatch, capsys):
    monkeypatch.setenv("METAPLASTIC_WEIGHTS", str(folder.parents[2]))
    monkeypatch.setenv("METAPLASTIC_FEEDBACK", feedback)
    assert main(arguments) == 1
    assert told in capsys.readouterr().err


def test_pictures_without_a_licence_are_not_packed(published, tmp_path, capsys):
    repository = Path(shutil.copytree(published / "mnist", tmp_path / "weights/cifar10")).parent
    card = repository / "cifar10/lenet/metaplastic/1/card.json"
    card.write_text(card.read_text().replace('"dataset": "mnist"', '"dataset": "cifar10"'))
    assert main(["learn", "cifar10/lenet", "--repository", str(repository), "--pack-home"]) == 1
    assert "no licence that allows to pass its pictures on" in capsys.readouterr().err
