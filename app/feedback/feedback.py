"""What happens to predictions and votes while METAPLASTIC_FEEDBACK is set.

A prediction gets an id and waits in the store for its vote. The application has one Feedback; it is
made before the workers are forked, and each worker writes by a thread of its own.
"""

import hashlib
import hmac
import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from app.catalogue.catalogue import Model
from app.errors import RequestError
from app.feedback.tokens import (
    Ticket,
    read_token,
    sign,
    unknown_prediction,
)
from app.feedback.writer import Writer
from app.settings import Settings, StartError
from app.telemetry.record import note_lost
from models.votes import (
    Both,
    NewVote,
    Prediction,
    Recorded,
    Store,
    UnknownPredictionError,
    VotesError,
    close_store,
    last_challengers,
    open_store,
    record_votes,
    secret_of,
)

T = TypeVar("T")

# Seconds in which a prediction of another process may not be in the store yet. It is longer than
# SQLite waits for another program that writes.
_FRESH = 10.0
_TRIES, _BETWEEN = 10, 0.03  # looks for a fresh prediction, and seconds between them


class Feedback:
    """The predictions and votes of this service."""

    def __init__(self, settings: Settings) -> None:
        """Open the store once, to make its tables. Raises StartError if that is impossible."""
        self.wait = settings.feedback_wait
        self.canary = settings.canary
        self.secret = _prepare(settings.feedback)
        self._writer = Writer(settings.feedback, self.wait)
        self._verdicts: list[tuple[str, str, str, str]] = []
        self._read: Future[None] | None = None  # the last reading of the verdicts

    def keeper(self, asker: str, champion: Model, challenger: Model | None) -> "Keeper":
        """Return what keeps the predictions of one request to the `champion`."""
        return Keeper(self, asker, os.urandom(12).hex(), champion, challenger)

    def start(self) -> None:
        """Begin to delete what expires in this process, also if nobody asks for anything."""
        self._writer.start()

    def put(self, prediction: Prediction) -> bool:
        """Queue a prediction. Return False if there is no room."""
        return self._writer.put(prediction)

    def do(self, job: Callable[[Store], T]) -> T:
        """Return the result of `job` with the store. Raises RequestError 503 if it has none now."""
        return self._writer.do(job)

    def delete(self, deletion: Callable[[Store], int]) -> int:
        """Return how many predictions `deletion` has deleted from the store, as `do` does."""

        def run(store: Store) -> int:
            number = deletion(store)
            self._writer.forget(store)
            return number

        return self.do(run)

    def ticket(self, token: str) -> Ticket:
        """Return what the id of a prediction says. Raises RequestError 404 or 410."""
        return read_token(token, self.secret)

    def verdicts(self) -> list[tuple[str, str, str, str]]:
        """Return model, version, gate and verdict for the last challenger of each model.

        They are as old as the last call, so that a scrape of the metrics does not wait.
        """
        if self._read is None or self._read.done():  # none piles up while the store is slow
            self._read = self._writer.do_later(self._read_verdicts)
        return self._verdicts

    def _read_verdicts(self, store: Store) -> None:
        self._verdicts = [
            (
                f"{event.dataset}-{event.architecture}-{event.rule}",
                str(event.content.get("version", "")),
                str(gate.get("gate", "")),
                str(gate.get("verdict", "")),
            )
            for event in last_challengers(store)
            for gate in event.content.get("gates", [])
        ]

    def vote(self, votes: Sequence[NewVote], made: float) -> list[Recorded]:
        """Store `votes`, all or none. They are on the disk when this returns.

        `made` is when the newest of their predictions was made. Raises RequestError 404 for a
        prediction that is not in the store, and 503.
        """
        for _ in range(_TRIES):
            try:
                return self.do(lambda store: record_votes(store, votes))
            except UnknownPredictionError as error:
                if time.time() > made + _FRESH:
                    raise _with_index(unknown_prediction(), str(error), votes) from None
            # The process that answered writes it within a moment.
            time.sleep(_BETWEEN)
        message = "The prediction is not in the store yet. Try again."
        raise RequestError(503, "feedback_unavailable", message)


@dataclass(frozen=True)
class Keeper:
    """What keeps the predictions of one request for votes."""

    feedback: Feedback
    asker: str
    request: str  # its number
    champion: Model  # the model that is asked
    challenger: Model | None  # to be asked besides, or None

    def draws_challenger(self, pixels: NDArray[np.float32]) -> bool:
        """Return whether the challenger is to answer about a picture on which the two differ.

        The same asker with the same picture gets the same answer each time.
        """
        version = self.challenger.card.version if self.challenger else None
        about = f"{self.asker}|{self.champion.card.name}|{version}|".encode()
        drawn = hmac.digest(self.feedback.secret, about + _stored(pixels).tobytes(), hashlib.sha256)
        return int.from_bytes(drawn[:8]) < self.feedback.canary * 2**64

    def keep(
        self,
        index: int,
        model: Model,
        pixels: NDArray[np.float32],
        answer: int,
        answers: tuple[int, int] | None,
    ) -> str | None:
        """Keep the prediction of `model` about a picture, and return its id.

        `pixels` (height, width, channels) in 0..1 are what the network received, and `answer` is
        the index of the label. `answers` are the champion's and the challenger's, if both were
        asked. Return None if there is no room; the loss is counted.
        """
        card, now = model.card, time.time()
        both = None
        if answers and self.challenger:
            versions = self.champion.card.version, self.challenger.card.version
            both = Both(versions[0], answers[0], versions[1], answers[1])
        expires = math.ceil(now) + self.feedback.wait
        ticket = Ticket(self.request, index, card.name, card.version, expires, self.asker)
        kept = self.feedback.put(
            Prediction(
                id=ticket.id,
                dataset=card.dataset,
                architecture=card.architecture,
                rule=card.rule,
                version=card.version,
                answer=answer,
                asker=self.asker,
                made=now,
                expires=float(expires),
                pixels=_stored(pixels),
                both=both,
                canary=both is not None and card.version == both.challenger,
            )
        )
        if not kept:
            note_lost()
            return None
        return sign(ticket, self.feedback.secret)


def _stored(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a picture (height, width, channels) in 0..1 as the store keeps it."""
    return np.rint(pixels * 255).astype(np.uint8)


_secrets: dict[str, bytes] = {}


def _prepare(url: str) -> bytes:
    """Return the secret of the store at `url`; its tables are made. Raises StartError.

    It never changes, so a reload of the models does not need the store.
    """
    if url not in _secrets:
        try:
            store = open_store(url)
            _secrets[url] = secret_of(store)
            close_store(store)
        except VotesError as error:
            raise StartError(f"METAPLASTIC_FEEDBACK: {error}") from error
    return _secrets[url]


def _with_index(error: RequestError, prediction_id: str, votes: Sequence[NewVote]) -> RequestError:
    if len(votes) > 1:
        error.details["index"] = [vote.prediction_id for vote in votes].index(prediction_id)
    return error
