"""Learn beside the service: read the votes, learn, and record what was done in the store."""

import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from models.cards import IMPORTED, RULES, Card, find_models
from models.errors import MetaplasticError
from models.learning.challenger import LearnError
from models.learning.gates import Verdict
from models.learning.learner import Settings
from models.learning.run import (
    LEAST_VOTES,
    PROMOTED,
    ROLLED_BACK,
    WAITING,
    Decision,
    Model,
    find_model,
    judge,
    learn_once,
)
from models.learning.vote_arrays import MOST_VOTES, Votes, vote_arrays
from models.votes import (
    CHALLENGER,
    Store,
    Vote,
    count_votes,
    events,
    note_event,
    reopened,
    take_requests,
    votes,
)
from models.votes import PROMOTED as PROMOTED_EVENT
from models.votes import ROLLED_BACK as ROLLED_BACK_EVENT

# A tenth of 5,000 is all that one key can have, so more are read than are learned from.
_READ = 4 * MOST_VOTES


def versions_folder(repository: Path, endpoint: str, rule: str | None) -> Path:
    """Return the folder of the versions of the model that `endpoint` names, `DATASET/ARCHITECTURE`.

    Without a `rule` it is that of the endpoint's default model. Raises LearnError if there is none,
    and if it was imported.
    """
    cards = [card for _, card in find_models(repository / endpoint)]
    rules = {card.rule for card in cards}
    if rule is None:
        defaults = {card.rule for card in cards if card.default} or rules
        rule = next((name for name in RULES if name in defaults), min(defaults, default=None))
    if rule is None or rule not in rules:
        raise LearnError(
            f"{repository} has no model {endpoint}{'' if rule is None else f' by {rule}'}; "
            "`python -m models list` shows all"
        )
    if rule == IMPORTED:
        raise LearnError(
            f"{endpoint} is imported: only a network that was trained here learns from votes"
        )
    return repository / endpoint / rule


def learn_from_store(
    folder: Path, store: Store, settings: Settings, *, canary: bool = False
) -> Decision:
    """Let the model whose versions are in `folder` learn once from the votes in `store`.

    What was done is recorded in the store. Raises LearnError, VotesError, and what making a
    challenger raises.
    """
    model, began = find_model(folder), time.time()
    take_requests(store, model.card.dataset, model.card.architecture)
    outcome = learn_once(model, read_votes(model, store), settings, canary=canary)
    _note(model, store, outcome, began)
    return outcome


def watch(
    folder: Path,
    store: Store,
    settings: Settings,
    *,
    canary: bool,
    every: float,
    say: Callable[[str], None],
) -> None:
    """Stay beside the service until SIGTERM or SIGINT, and look at the votes `every` few seconds.

    Champion and challenger are judged each time. A new challenger learns when an admin asks for
    one, or when LEAST_VOTES votes have come since the last one. `say` gets a line for everything
    that was done.
    """
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    while not stopped.is_set():
        try:
            store = reopened(store)
            for outcome in one_look(folder, store, settings, canary, say):
                say(sentence(outcome))
        except MetaplasticError as error:  # such as a database that is down; the next look may work
            say(f"not now: {error}")
        stopped.wait(every)


def one_look(
    folder: Path,
    store: Store,
    settings: Settings,
    canary: bool,
    say: Callable[[str], None],
) -> list[Decision]:
    """Judge champion and challenger, learn if there is a reason to, and return what was done."""
    model, began = find_model(folder), time.time()
    endpoint = model.card.dataset, model.card.architecture
    known, asked = read_votes(model, store), take_requests(store, *endpoint) > 0
    # An admin who asks for a challenger does not want to wait for the present one.
    outcome = judge(model, known, canary=canary and not asked)
    if outcome is not None:
        if outcome.said == WAITING:
            return []
        _note(model, store, outcome, began)
        return [outcome]
    if not asked and count_votes(store, *endpoint, since=_read_until(model, store)) < LEAST_VOTES:
        return []
    if len(known) < LEAST_VOTES:
        say(f"{len(known)} votes: expected {LEAST_VOTES} or more to learn from")
        return []
    outcome = learn_once(model, known, settings)
    _note(model, store, outcome, began)
    return [outcome]


def sentence(outcome: Decision) -> str:
    """Return what was done, with the verdict of each gate, for the terminal."""
    gates = "; ".join(
        f"{verdict.gate} {verdict.verdict}: {verdict.reason}" for verdict in outcome.verdicts
    )
    return f"version {outcome.version}: {outcome.said} ({gates})"


def read_votes(model: Model, store: Store) -> Votes:
    """Return the newest votes about the model, as far as they fit its published version."""
    card = model.card
    found = votes(store, card.dataset, card.architecture, rule=card.rule, most=_READ)
    shape = card.input.height, card.input.width, card.input.channels
    labels = {other.version: other.labels for _, other in find_models(model.folder)}
    return vote_arrays([vote for vote in found if _fits(vote, card, shape, labels)], shape)


def _fits(
    vote: Vote, card: Card, shape: tuple[int, int, int], labels: Mapping[int, tuple[str, ...]]
) -> bool:
    """Return whether the vote is about a network like the published one, of which `card` is.

    An earlier one may have had images of another size or other labels. `labels` are those of the
    versions that are there. A newer version that is gone was a challenger of the published one.
    """
    known = vote.prediction
    gone = card.labels if known.version > card.version else None
    same = labels.get(known.version, gone) == card.labels
    indices_fit = max(known.answer, vote.label or 0) < len(card.labels)
    return known.pixels.shape == shape and same and indices_fit


def _read_until(model: Model, store: Store) -> float:
    """Return when the votes were read of which the last challenger was made."""
    made = events(store, model.card.dataset, model.card.architecture, kind=CHALLENGER, most=1)
    return float(made[0].content.get("read", made[0].at)) if made else 0.0


def _note(model: Model, store: Store, outcome: Decision, began: float) -> None:
    """Record an outcome: how a challenger did at its gates, and whether the champion changed.

    The votes were read when the run `began`.
    """
    card = model.card
    endpoint = card.dataset, card.architecture
    kind = ROLLED_BACK_EVENT if outcome.said == ROLLED_BACK else CHALLENGER
    content = {
        "version": outcome.version,
        "outcome": outcome.said,
        "gates": [_as_json(verdict) for verdict in outcome.verdicts],
        "read": began,
    }
    note_event(store, kind, *endpoint, card.rule, content)
    if outcome.said == PROMOTED:
        note_event(store, PROMOTED_EVENT, *endpoint, card.rule, {"version": outcome.version})


def _as_json(verdict: Verdict) -> dict[str, str | int]:
    return dataclasses.asdict(verdict)
