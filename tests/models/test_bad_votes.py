"""Liars, mistakes and attacks: what they make of a network is not promoted.

The whole way from votes to the verdicts, on a small network: choice and weights of the votes,
learning, the home gate and the stream gate.
"""

import keras
import numpy as np
import pytest

from models.learning.gates import PASSED, home_gate, stream_gate
from models.learning.learner import Lessons, Settings, learn
from models.learning.lessons import vote_targets
from models.learning.reservoir import reservoir, split_by_time
from models.learning.trust import vote_weights
from models.learning.vote_arrays import UNKNOWN
from tests.models.made_votes import made_votes
from tests.models.quarters import CLASSES, accuracy, pictures, small_network

pytestmark = pytest.mark.slow

COUNT = 1000
SETTINGS = Settings(steps=120, rate=3e-3, home=1.0, home_batch=64, farthest=3.0)
LIAR = "key:liar"


@pytest.fixture(scope="module")
def published():
    return small_network()


def answers(network, images):
    return network.predict_on_batch(images / np.float32(255)).argmax(axis=1)


def votes_on(network, images, said, keys):
    """Votes whose labels are `said`. Half of the people who agree give a thumb up."""
    found = answers(network, images)
    thumbs = (found == said) & (np.arange(len(found)) % 2 == 0)
    return made_votes(found, found == said, np.where(thumbs, UNKNOWN, said), keys, images=images)


def users(count):
    return np.array([f"key:user{number % 20}" for number in range(count)])


def promoted(network, votes):
    """Learn and judge. Return whether the result is promoted, and its gain on pale pictures."""
    earlier, later = split_by_time(votes)
    chosen = reservoir(earlier, CLASSES, most=COUNT)
    lessons = Lessons(
        chosen.images,
        vote_targets(chosen, CLASSES, "logits"),
        vote_weights(chosen, votes).astype(np.float32),
    )
    known, labels = pictures(3000, seed=7)
    challenger = keras.models.clone_model(network)
    challenger.set_weights(learn(network, lessons, pictures(600, seed=2)[0], SETTINGS, "logits"))
    at_home = home_gate("mnist", answers(network, known), answers(challenger, known), labels)
    stream = stream_gate(
        *(later, answers(network, later.images), answers(challenger, later.images)),
        vote_weights(later),
    )
    new = pictures(1000, seed=8, pale=True)
    gain = accuracy(challenger, *new) - accuracy(network, *new)
    return at_home.verdict == stream.verdict == PASSED, gain


def test_honest_votes_are_promoted_and_make_it_better(published):
    images, classes = pictures(COUNT, seed=3, pale=True)
    good, gain = promoted(published, votes_on(published, images, classes, users(COUNT)))
    assert good
    assert gain > 0.1


def test_a_fifth_of_flipped_votes_makes_nothing_worse_the_champion(published):
    images, classes = pictures(COUNT, seed=3, pale=True)
    flipped = np.random.default_rng(9).random(COUNT) < 0.2
    said = np.where(flipped, (classes + 1) % CLASSES, classes)
    good, gain = promoted(published, votes_on(published, images, said, users(COUNT)))
    assert not good or gain > 0


@pytest.mark.parametrize("about", ["pale", "home"])
def test_one_lying_key_with_half_of_all_votes_makes_nothing_worse_the_champion(published, about):
    images, classes = pictures(COUNT, seed=3, pale=True)
    lies = np.arange(COUNT) % 2 == 0
    if about == "home":  # the liar sends pictures that the network knows
        images[lies], classes[lies] = pictures(int(lies.sum()), seed=4)
    said = np.where(lies, (classes + 1) % CLASSES, classes)
    keys = np.where(lies, LIAR, users(COUNT))
    good, gain = promoted(published, votes_on(published, images, said, keys))
    assert not good or gain > 0


@pytest.mark.parametrize("when", ["now", "at the next run"])
def test_votes_that_are_saved_up_and_strike_at_once_promote_nothing_bad(published, when):
    # The key was honest in its first 400 votes. Then it lies 300 times in a row.
    images, classes = pictures(COUNT, seed=3, pale=True)
    keys = users(COUNT)
    keys[:400] = LIAR
    strike = slice(700, 1000) if when == "now" else slice(500, 800)
    keys[strike] = LIAR
    said = classes.copy()
    said[strike] = (said[strike] + 1) % CLASSES
    good, gain = promoted(published, votes_on(published, images, said, keys))
    assert not good or gain > 0


def test_a_challenger_that_learned_lies_alone_is_refused(published):
    images, classes = pictures(COUNT, seed=3, pale=True)
    said = (classes + 1) % CLASSES
    said[800:] = classes[800:]  # those that are held out are honest
    good, _ = promoted(published, votes_on(published, images, said, users(COUNT)))
    assert not good
