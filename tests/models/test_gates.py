"""The gates let a better challenger through, and nothing that the votes do not show."""

import math

import numpy as np
import pytest

from models.learning.gates import (
    FAILED,
    PASSED,
    UNDECIDED,
    canary_gate,
    home_gate,
    live_gate,
    stream_gate,
)
from models.learning.reservoir import reservoir, split_by_time
from models.learning.statistics import ALPHA, LOOKS, decided, fisher, lower_bound, spent
from models.learning.trust import trust_in_keys, vote_weights
from models.learning.vote_arrays import UNKNOWN
from tests.models.made_votes import made_votes


def answers(right, wrong, labels):
    """Answers to images of these `labels`: wrong at the places `wrong`, right elsewhere."""
    found = labels.copy()
    found[wrong] = (found[wrong] + 1) % 10
    return found


def home(lost, gained, images=6000):
    labels = np.arange(images) % 10
    published = answers(None, np.arange(gained), labels)
    challenger = answers(None, np.arange(gained, gained + lost), labels)
    return home_gate("mnist", published, challenger, labels).verdict


def test_a_challenger_that_answers_as_before_at_home_passes():
    assert home(lost=0, gained=0) == PASSED
    assert home(lost=4, gained=4) == PASSED


def test_a_challenger_that_loses_at_home_fails():
    assert home(lost=13, gained=2) == FAILED
    assert home(lost=60, gained=0) == FAILED


def test_without_evidence_that_nothing_is_lost_at_home_a_challenger_fails():
    assert home(lost=15, gained=15) == FAILED  # no loss found, but one of 0.1 points is possible
    assert home(lost=0, gained=0, images=100) == FAILED


def test_a_loss_of_a_tenth_of_a_point_is_found_in_19_of_20_samples():
    random, passed = np.random.default_rng(0), 0
    for _ in range(400):  # of 6000 images, 0.3 % get worse and 0.2 % better: a loss of 0.1 points
        change = random.choice([-1.0, 1.0, 0.0], 6000, p=[0.003, 0.002, 0.995])
        passed += lower_bound(change, np.ones(6000)).low >= -0.001
    assert passed / 400 <= 0.07  # 5 %, and two standard deviations of this estimate


def stream(right_before, right_after, keys=None, labels=True, admins=False):
    """A stream of labelled votes, and what the two versions answer: True is a right answer."""
    truth = np.arange(len(right_before)) % 10
    before, after = (np.where(r, truth, (truth + 1) % 10) for r in (right_before, right_after))
    rewards = np.asarray(right_before, float)
    votes = made_votes(before, rewards, truth if labels else UNKNOWN, keys, admins=admins)
    return stream_gate(votes, before, after, vote_weights(votes)).verdict


HALF = np.arange(400) % 2 == 0
MOST = np.arange(400) % 10 != 0


def test_a_better_challenger_passes_on_later_votes_with_labels():
    assert stream(HALF, MOST) == PASSED
    assert stream(MOST, HALF) == FAILED
    assert stream(HALF, HALF) == UNDECIDED


def test_thumbs_on_the_champions_own_answers_may_show_a_loss_but_never_a_gain():
    assert stream(HALF, MOST, labels=False) != PASSED
    assert stream(HALF, np.ones(400, bool), labels=False) == UNDECIDED
    assert stream(MOST, HALF, labels=False) == FAILED


def test_a_challenger_with_few_losses_and_many_possible_gains_is_not_refused():
    after = np.ones(400, bool)
    after[:20:2] = False  # ten that were right
    assert stream(HALF, after, labels=False) == UNDECIDED


def test_one_key_alone_promotes_nothing_unless_it_is_an_admins():
    assert stream(HALF, MOST, keys="key:one") == UNDECIDED
    assert stream(HALF, MOST, keys="key:one", admins=True) == PASSED


def test_one_lying_key_with_half_of_all_votes_makes_nothing_worse_pass():
    keys = np.where(HALF, "key:liar", [f"key:user{n % 20}" for n in range(400)])
    truth = np.arange(400) % 10
    champion, challenger = truth, (truth + 1) % 10
    labels = np.where(HALF, challenger, truth)  # the liar says that the wrong answers are right
    votes = made_votes(champion, champion == labels, labels, keys)
    assert stream_gate(votes, champion, challenger, vote_weights(votes)).verdict == FAILED


def canary(champion_right, challenger_right, keys=None):
    """Thumbs on disputed pictures, in turn on both: shares of right answers."""
    random = np.random.default_rng(3)
    newer = np.arange(600) % 3 == 0
    rewards = random.random(600) < np.where(newer, challenger_right, champion_right)
    versions = np.where(newer, 2, 1)
    votes = made_votes(
        *(np.zeros(600, int), rewards, UNKNOWN, keys),
        **{"versions": versions, "challengers": 2, "disputed": True, "canary": newer},
    )
    return canary_gate(votes, 2).verdict


def test_the_canary_finds_the_better_one():
    assert canary(0.2, 0.7) == PASSED
    assert canary(0.7, 0.2) == FAILED
    assert canary(0.5, 0.5) == UNDECIDED
    assert canary(0.2, 0.7, keys="key:one") == UNDECIDED


def test_a_canary_that_finds_no_difference_in_all_its_looks_ends():
    newer = np.arange(1400) % 2 == 0
    votes = made_votes(
        *(np.zeros(1400, int), np.arange(1400) % 4 < 2),
        **{"versions": 1 + newer, "challengers": 2, "disputed": True, "canary": newer},
    )
    verdict = canary_gate(votes, 2)
    assert verdict.verdict == FAILED
    assert "no difference found: 350 of 700 right, before 350 of 700" in verdict.reason


def test_votes_about_another_challenger_do_not_count_for_this_one():
    votes = made_votes(np.zeros(300, int), 1, challengers=7, disputed=True, canary=True)
    verdict = canary_gate(votes, 8)
    assert (verdict.verdict, verdict.votes) == (UNDECIDED, 0)


def live(before, now):
    random = np.random.default_rng(4)
    newer = np.arange(1000) >= 500
    rewards = random.random(1000) < np.where(newer, now, before)
    return live_gate(made_votes(np.zeros(1000, int), rewards, versions=1 + newer), 2, 1).verdict


def test_a_champion_with_fewer_thumbs_up_than_the_former_one_fails():
    assert live(0.9, 0.6) == FAILED
    assert live(0.7, 0.7) == UNDECIDED


def test_the_looks_together_are_wrong_in_at_most_one_of_twenty():
    random, wrong = np.random.default_rng(5), 0
    for _ in range(300):  # equal arms, a tenth of the pictures for the newer one
        newer = random.random(3000) < 0.1
        wrong += decided(newer, random.random(3000) < 0.5) == "better"
    assert wrong / 300 <= ALPHA
    assert math.isclose(sum(map(spent, LOOKS)), ALPHA)


def test_a_decision_does_not_change_with_later_votes():
    random = np.random.default_rng(6)
    newer = np.arange(900) % 2 == 0
    right = random.random(900) < np.where(newer, 0.8, 0.4)
    first = next(n for n in range(900) if decided(newer[:n], right[:n]) != "undecided")
    flipped = np.concatenate([right[:first], ~right[first:]])
    assert decided(newer, right) == decided(newer, flipped) == "better"


@pytest.mark.parametrize(
    ("better", "worse", "expected"),
    [
        ((3, 3), (0, 3), 1 / 20),  # one of the 20 ways to choose three of six
        ((1, 1), (0, 1), 1 / 2),
        ((0, 5), (5, 5), 1.0),
        ((0, 0), (0, 0), 1.0),
    ],
)
def test_fishers_exact_test_counts_the_ways(better, worse, expected):
    assert math.isclose(fisher(better, worse), expected)


def test_a_key_has_at_most_a_tenth_of_all_weight():
    keys = np.where(np.arange(400) < 200, "key:liar", [f"key:user{n % 40}" for n in range(400)])
    weights = vote_weights(made_votes(np.zeros(400, int), keys=keys))
    assert math.isclose(weights[:200].sum(), 40)
    assert (weights[200:] == 1).all()


def test_a_key_that_admins_refute_counts_less():
    pictures = np.arange(20, dtype=np.uint8).reshape(-1, 1, 1, 1)
    images = np.concatenate([pictures, pictures, pictures])
    keys = np.repeat(["key:admin", "key:good", "key:bad"], 20)
    labels = np.repeat([3, 3, 4], 20)
    admins = keys == "key:admin"
    votes = made_votes(np.zeros(60, int), 0, labels, keys, images=images, admins=admins)
    assert trust_in_keys(votes) == {"key:good": 1.0, "key:bad": 0.0}
    weights = vote_weights(votes)
    assert weights[admins].min() == 1
    assert weights[keys == "key:bad"].max() == 0


def test_the_newest_votes_are_learned_from_with_a_place_for_every_class_and_key():
    keys = np.where(np.arange(3000) >= 2000, "key:busy", [f"key:u{n % 50}" for n in range(3000)])
    answered = np.where(np.arange(3000) < 1900, 7, np.arange(3000) % 10)
    chosen = reservoir(made_votes(answered, keys=keys), classes=10, most=1000)
    assert len(chosen) == 1000
    assert (chosen.keys == "key:busy").sum() == 100  # a tenth
    assert set(chosen.answers.tolist()) == set(range(10))
    assert (np.diff(chosen.times) > 0).all()


def test_later_votes_are_held_out():
    earlier, later = split_by_time(made_votes(np.zeros(100, int))[::-1])
    assert (len(earlier), len(later)) == (80, 20)
    assert earlier.times.max() < later.times.min()
