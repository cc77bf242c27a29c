"""One run of the learner: judge what is there, learn from the votes, and decide about the result.

The order of a run makes every end of the process harmless. A version appears complete, by one
rename. It has no alias until its gates are recorded, and a promotion replaces one small file. Only
one learner at a time works on a model.
"""

import contextlib
import dataclasses
import fcntl
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.aliases import has_version, promote, read_aliases, roll_back, set_aliases
from models.cards import Card, find_models
from models.learning.challenger import LearnError, make_challenger, published_version
from models.learning.gates import (
    FAILED,
    PASSED,
    Verdict,
    canary_gate,
    home_gate,
    live_gate,
    stream_gate,
)
from models.learning.home import Home, find_home
from models.learning.learner import REWARD_SETTINGS, Settings
from models.learning.lessons import REWARD
from models.learning.reservoir import reservoir, split_by_time
from models.learning.trust import vote_weights
from models.learning.vote_arrays import Votes
from models.packaging.running import onnx_logits

LEAST_VOTES = 100  # fewer say too little about ten classes
PROMOTED, ROLLED_BACK, WAITING, REFUSED = "promoted", "rolled back", "waiting", "refused"
# What protects the weights where there are no images from home; docs/learning.md says how well.
WITHOUT_HOME: Mapping[str, Any] = {"rule": "consolidating", "strength": 30.0}
_LOCK = ".learning.lock"


@dataclass(frozen=True)
class Model:
    """A model whose versions are in `folder`, and the published one of them."""

    folder: Path
    published: Path
    card: Card


@dataclass(frozen=True)
class Decision:
    """What a run decided about a version: PROMOTED, ROLLED_BACK, WAITING or REFUSED."""

    said: str
    version: int
    verdicts: tuple[Verdict, ...]


def find_model(folder: Path) -> Model:
    """Return the model whose versions are in `folder`. Raises LearnError without one."""
    return Model(folder, *published_version(folder))


def learn_once(model: Model, votes: Votes, settings: Settings, *, canary: bool = False) -> Decision:
    """Let a model learn from `votes`, its newest ones, and return what was done.

    What can be decided without learning comes first, as in `judge`. Otherwise a new challenger
    learns and is judged. Raises LearnError if another learner works on this model, or for fewer
    than LEAST_VOTES votes.
    """
    with _alone(model.folder):
        if (done := _judged(model, votes, canary)) is not None:
            return done
        if len(votes) < LEAST_VOTES:
            raise LearnError(f"{len(votes)} votes: expected {LEAST_VOTES} or more to learn from")
        return _new_challenger(model, votes, settings)


def judge(model: Model, votes: Votes, *, canary: bool = False) -> Decision | None:
    """Decide about champion and challenger by their votes, and return what was done, if anything.

    The champion is rolled back if live votes say that the former one was better. A challenger that
    waits is promoted or refused if the votes can tell. With `canary` it goes on waiting while they
    cannot. Raises LearnError if another learner works on this model.
    """
    with _alone(model.folder):
        return _judged(model, votes, canary)


def _judged(model: Model, votes: Votes, canary: bool) -> Decision | None:
    _keep_champion(model.folder)
    return _judge_champion(model, votes) or _judge_challenger(model, votes, canary)


def _judge_champion(model: Model, votes: Votes) -> Decision | None:
    """Roll back if the champion's live votes are worse than the former champion's.

    The published version takes the place of a former champion that is gone.
    """
    aliases = read_aliases(model.folder)
    if aliases.champion is None or aliases.former is None:
        return None
    live = live_gate(votes, aliases.champion, aliases.former)
    if live.verdict != FAILED:
        return None
    if has_version(model.folder, aliases.former):
        roll_back(model.folder, aliases.champion)
    else:
        set_aliases(model.folder, champion=model.card.version, former=None)
    return Decision(ROLLED_BACK, aliases.champion, (live,))


def _judge_challenger(model: Model, votes: Votes, canary: bool) -> Decision | None:
    """Decide about a challenger that waits, or return None if there is none, or no longer.

    It passed at home when it was made.
    """
    aliases = read_aliases(model.folder)
    challenger = aliases.challenger
    if challenger is None or aliases.champion is None:
        return None
    if not has_version(model.folder, challenger):
        set_aliases(model.folder, challenger=None)
        return None
    outcome = _decide(model, challenger, [canary_gate(votes, challenger)])
    # Without a canary there are no more thumbs to wait for: a new challenger knows more votes.
    return outcome if outcome.said != WAITING or canary else None


def _decide(model: Model, challenger: int, verdicts: Sequence[Verdict]) -> Decision:
    """Promote or withdraw the challenger, or let it wait, as the verdicts say."""
    found = {verdict.verdict for verdict in verdicts}
    if FAILED in found:
        set_aliases(model.folder, challenger=None)
        return Decision(REFUSED, challenger, tuple(verdicts))
    if PASSED in {verdict.verdict for verdict in verdicts if verdict.gate != "home"}:
        promote(model.folder, challenger)
        return Decision(PROMOTED, challenger, tuple(verdicts))
    return Decision(WAITING, challenger, tuple(verdicts))


def _new_challenger(model: Model, votes: Votes, settings: Settings) -> Decision:
    """Learn from the earlier votes, and judge the result at home and by the later ones."""
    home = find_home(model.published, model.card)
    earlier, later = split_by_time(votes)
    chosen = reservoir(earlier, len(model.card.labels))
    _remove_forgotten(model.folder)
    if model.card.need_calibration().outputs == REWARD:
        settings = dataclasses.replace(settings, **REWARD_SETTINGS)
    if home.images is None:
        settings = dataclasses.replace(settings, home=0.0, **WITHOUT_HOME)
    made = make_challenger(model.folder, chosen, vote_weights(chosen, votes), home, settings)
    challenger = int(made.name)
    champion = read_aliases(model.folder).champion
    assert champion is not None  # `_keep_champion` has set it
    verdicts = [_home(model, home, challenger)]
    if verdicts[0].verdict == PASSED:
        verdicts.append(_stream(model, later, champion, challenger))
    # The alias comes after the verdict, so that nobody asks a challenger that loses at home.
    if all(verdict.verdict != FAILED for verdict in verdicts):
        set_aliases(model.folder, challenger=challenger)
    return _decide(model, challenger, verdicts)


def _home(model: Model, home: Home, challenger: int) -> Verdict:
    if home.validation is None:
        reason = "the data set is not here, and no home.npz either"
        return Verdict("home", FAILED, reason, 0)
    images, labels = home.validation
    ours, theirs = (
        onnx_logits(folder, images).argmax(axis=1)
        for folder in (model.published, model.folder / str(challenger))
    )
    return home_gate(model.card.dataset, ours, theirs, labels)


def _stream(model: Model, later: Votes, champion: int, challenger: int) -> Verdict:
    ours, theirs = (
        onnx_logits(model.folder / str(version), later.images).argmax(axis=1)
        for version in (champion, challenger)
    )
    return stream_gate(later, ours, theirs, vote_weights(later))


def _keep_champion(folder: Path) -> None:
    """Make the version that answers now the champion, because a newer one is about to appear.

    Without a champion, or if its version was removed, that is the newest published version. A
    version that learned from votes becomes the champion by its gates or by an admin only.
    """
    if not has_version(folder, read_aliases(folder).champion):
        set_aliases(folder, champion=published_version(folder)[1].version)


def _remove_forgotten(folder: Path) -> None:
    """Remove challengers without an alias, and what a learner that died has left."""
    aliases = read_aliases(folder)
    named = {aliases.champion, aliases.challenger, aliases.former}
    for path, card in list(find_models(folder)):
        if card.learned is not None and card.version not in named:
            shutil.rmtree(path)
    for path in folder.glob(".learning-*"):
        shutil.rmtree(path)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lock the model for this process. A process that dies releases the lock."""
    with (folder / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LearnError(f"{folder}: another learner works on this model") from error
        yield
