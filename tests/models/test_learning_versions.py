"""Which votes count for a model, and which version answers after a rollback, by the cards alone."""

import json
from pathlib import Path

import numpy as np
import pytest

from models.aliases import Aliases, read_aliases, set_aliases
from models.learning.run import ROLLED_BACK, find_model, judge
from models.learning.vote_arrays import UNKNOWN
from models.learning.watch import read_votes
from models.votes import close_store, keep_predictions, open_store, record_vote
from tests.models.made_votes import made_votes, predictions

CARD = next(Path("weights/mnist/lenet/metaplastic").glob("*/card.json")).read_text()
DIGITS = "0123456789"


@pytest.fixture
def folder(tmp_path):
    """The folder of a model's versions, none of which is there yet."""
    return tmp_path / "weights/mnist/lenet/metaplastic"


def put(folder, version, labels=DIGITS):
    (folder / str(version)).mkdir(parents=True)
    card = {**json.loads(CARD), "version": version, "labels": list(labels)}
    (folder / str(version) / "card.json").write_text(json.dumps(card))


def test_votes_about_a_version_with_other_labels_are_left_out(folder, tmp_path):
    # In the store a label is its place in the list of the version that answered.
    put(folder, 1, DIGITS[::-1])
    put(folder, 2)
    put(folder, 4)
    store = open_store(f"sqlite:///{tmp_path / 'votes.db'}")
    known = {1: "other labels", 2: "the same", 3: "gone", 4: "published last", 5: "a challenger"}
    for version in known:
        keep_predictions(store, predictions(1, version=version, name=f"of {version}, "))
        record_vote(store, f"of {version}, 0", voter="key:a", reward=1)
    found = read_votes(find_model(folder), store)
    close_store(store)
    assert sorted(found.versions) == [2, 4, 5]


def test_where_the_former_champion_is_gone_a_rollback_returns_to_the_published_one(folder):
    put(folder, 1)
    put(folder, 2)
    card = json.loads((folder / "2/card.json").read_text())
    learned = {
        "parent": 1,
        "parent_sha256": "0" * 64,
        "votes": 100,
        "labels": 0,
        "days": ["2026-11-27", "2026-11-28"],
        "home": "none",
        "settings": {},
    }
    (folder / "2/card.json").write_text(json.dumps({**card, "learned": learned}))
    set_aliases(folder, champion=2, former=7)
    newer = np.arange(400) >= 200
    rewards = np.where(newer, np.arange(400) % 2, 1)
    votes = made_votes(np.zeros(400, int), rewards, UNKNOWN, versions=np.where(newer, 2, 7))
    outcome = judge(find_model(folder), votes)
    assert (outcome.said, outcome.version) == (ROLLED_BACK, 2)
    assert read_aliases(folder) == Aliases(champion=1)
