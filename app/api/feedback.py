"""/api/feedback: votes about predictions, and their deletion."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import flask_restx
from flask import Response, current_app, request

from app.catalogue.catalogue import Catalogue, Model
from app.errors import RequestError
from app.feedback.feedback import Feedback
from app.feedback.tokens import ADDRESS, MOST_CHARACTERS, Ticket, verify
from app.telemetry.record import note_vote
from app.web import vote_schemas
from app.web.addresses import asker_of
from app.web.answers import Content, Resource, answer, content_of, respond
from app.web.body import AnyRequest, read_body, read_json
from app.web.keys import KEY_NAME, KeyFile, is_admin, require_admin
from app.web.options import DELETION, describe, refuse_unknown
from models.votes import (
    NewVote,
    Store,
    delete_before,
    delete_key,
    delete_prediction,
)

PATH = "/api/feedback"
MOST_VOTES = 1000  # in one request
_EXPECTED = '{"prediction_id": "...", "reward": 1}, or "label" in place of "reward", or a list'
_KNOWN = {"prediction_id", "reward", "label"}
_TIME = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|\+00:00)?)?")


@dataclass(frozen=True)
class Given:
    """A vote as it was sent: `reward` (0 or 1) or `label` (a name)."""

    token: str
    reward: int | None
    label: str | None


class Votes(Resource):
    """The votes about predictions."""

    def __init__(self, api: Any, catalogue: Catalogue, feedback: Feedback) -> None:
        super().__init__(api)
        self.catalogue = catalogue
        self.feedback = feedback

    def post(self) -> Response:
        """Say whether a prediction was right, or what would have been."""
        keys = current_app.extensions.get("keys")
        return respond(store_votes(request, self.catalogue, self.feedback, keys))

    def delete(self) -> Response:
        """Delete predictions with their votes: of a key, before a time, or one."""
        require_admin()
        refuse_unknown(request.args, DELETION)
        if len(list(request.args.items(multi=True))) != 1:
            message = f"Expected one parameter of: {', '.join(DELETION)}."
            raise RequestError(400, "bad_parameter", message)
        name, value = next(iter(request.args.items()))
        deleted = self.feedback.delete(self._deletion(name, value))
        return answer({"deleted": deleted})

    def _deletion(self, name: str, value: str) -> Callable[[Store], int]:
        """Return what deletes. Raises RequestError 400 or 404."""
        if name == "key":
            whose = _asker(value)
            return lambda store: delete_key(store, whose)
        if name == "before":
            moment = _moment(value)
            return lambda store: delete_before(store, moment)
        ticket = verify(value, self.feedback.secret)
        return lambda store: delete_prediction(store, ticket.id)


def store_votes(
    request: AnyRequest, catalogue: Catalogue, feedback: Feedback, keys: KeyFile | None
) -> Content:
    """Store the votes of `request`, and return the answer to it. Raises RequestError."""
    refuse_unknown(request.args, ())
    given = _read_votes(read_body(request))
    voter, by_admin = asker_of(request, feedback.secret), is_admin(keys, request)
    tickets, votes, models = [], [], []
    for index, one in enumerate(given):
        try:
            ticket = feedback.ticket(one.token)
            _check_asker(ticket, voter, by_admin)
            model = _model_of(ticket, catalogue)
            label = None if one.label is None else _index_of(one.label, model)
        except RequestError as error:
            if len(given) > 1:
                error.details["index"] = index
            raise
        tickets.append(ticket)
        models.append(model)
        votes.append(NewVote(ticket.id, voter, one.reward, label, by_admin))
    newest = max(ticket.expires for ticket in tickets) - feedback.wait
    recorded = feedback.vote(votes, newest)
    for ticket, model, vote, found in zip(tickets, models, votes, recorded, strict=True):
        if found.changed:
            up = vote.reward if vote.label is None else vote.label == found.answer
            labels = model.card.labels  # fewer, perhaps, than those of the version that answered
            label_of = labels[found.answer] if found.answer < len(labels) else str(found.answer)
            note_vote(ticket.model, ticket.version, label_of, "up" if up else "down")
    return content_of({"accepted": len(votes)}, 202)


def _read_votes(body: bytes) -> list[Given]:
    """Return the votes in `body`, of which there is at least one. Raises RequestError."""
    content = read_json(body, f"Expected {_EXPECTED}.", 4 * MOST_VOTES + 16)
    entries = content if isinstance(content, list) else [content]
    if len(entries) > MOST_VOTES:
        message = f"The request has {len(entries)} votes; at most {MOST_VOTES} are accepted."
        raise RequestError(413, "too_many_votes", message, limit=MOST_VOTES)
    if not entries:
        raise _bad_vote("There is no vote.")
    votes = []
    for index, entry in enumerate(entries):
        try:
            votes.append(_read_vote(entry))
        except RequestError as error:
            if len(entries) > 1:
                error.details["index"] = index
            raise
    return votes


def _read_vote(entry: Any) -> Given:
    if not isinstance(entry, dict):
        raise _bad_vote("A vote is an object.")
    if unknown := sorted(set(entry) - _KNOWN):
        raise _bad_vote(f"Unknown field {unknown[0][:40]!r}.")
    token, reward, label = entry.get("prediction_id"), entry.get("reward"), entry.get("label")
    if not isinstance(token, str) or len(token) > MOST_CHARACTERS:
        raise _bad_vote("prediction_id: expected the text that came with the prediction.")
    if (reward is None) == (label is None):
        raise _bad_vote("Expected either a reward or a label.")
    if reward is not None and (type(reward) is not int or reward not in (0, 1)):
        raise _bad_vote("reward: expected 0 or 1.")
    if label is not None and not isinstance(label, str):
        raise _bad_vote("label: expected the name of a class, as text.")
    return Given(token, reward, label)


def _bad_vote(problem: str) -> RequestError:
    return RequestError(400, "bad_vote", f"{problem} Expected {_EXPECTED}.")


def _check_asker(ticket: Ticket, voter: str, by_admin: bool) -> None:
    """Raise RequestError 403 if the prediction belongs to the key of somebody else."""
    if ticket.asker.startswith("key:") and ticket.asker != voter and not by_admin:
        message = "This prediction was made for another key; only that key or an admin may vote."
        raise RequestError(403, "foreign_prediction", message)


def _model_of(ticket: Ticket, catalogue: Catalogue) -> Model:
    """Return the model that the prediction came from, or another version of it.

    Raises RequestError 404 if no version is served any more.
    """
    for endpoint in catalogue.endpoints.values():
        for versions in endpoint.models.values():
            champion = next(iter(versions.values()))
            if champion.card.name == ticket.model:
                return versions.get(ticket.version, champion)
    message = f"The model {ticket.model} is not served any more, so it takes no votes."
    raise RequestError(404, "unknown_model", message)


def _index_of(label: str, model: Model) -> int:
    labels = model.card.labels
    if label not in labels:
        message = f"{model.card.name} has no class {label[:40]!r}; it has: {', '.join(labels)}."
        raise RequestError(422, "unknown_label", message)
    return labels.index(label)


def _asker(name: str) -> str:
    """Return the asker that the store has for a key or the hash of an address.

    Raises RequestError 400.
    """
    if ADDRESS.fullmatch(name):
        return name
    if KEY_NAME.fullmatch(name):
        return f"key:{name}"
    message = f"key: expected the name of a key, or `address:` and a hash, found {name[:40]!r}."
    raise RequestError(400, "bad_parameter", message, parameter="key")


def _moment(text: str) -> float:
    """Return a time in seconds since 1970. Raises RequestError 400."""
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        message = (
            "before: expected a time such as 2026-11-28 or 2026-11-28T18:00:00 (UTC), found "
            f"{text[:40]!r}."
        )
        raise RequestError(400, "bad_parameter", message, parameter="before") from None


def namespace(catalogue: Catalogue, feedback: Feedback) -> Any:
    """Return the namespace with the route /api/feedback."""
    space = flask_restx.Namespace("feedback", "Votes about predictions", path="/api")
    accepted = ("The votes are stored.", vote_schemas.accepted_votes)
    deleted = ("How many predictions were deleted.", vote_schemas.deleted_votes)
    space.add_resource(
        Votes,
        "/feedback",
        endpoint="feedback",
        resource_class_kwargs={"catalogue": catalogue, "feedback": feedback},
        route_doc={
            "post": {
                "id": "vote",
                "description": (
                    "The body is a vote, or a list of votes, of which all or none are stored. A "
                    "vote has the `prediction_id` of an answer and either a `reward` (1: right, 0: "
                    "wrong) or the `label` that is right. The same vote again changes nothing, and "
                    "another one replaces it, as long as the prediction waits for votes "
                    f"({feedback.wait} seconds)."
                ),
                "expect": [(vote_schemas.vote, "A vote, or a list of votes.")],
                "responses": vote_schemas.responses(
                    {202: accepted}, 400, 403, 404, 408, 410, 413, 422, 500, 503
                ),
            },
            "delete": {
                "id": "delete_votes",
                "description": "With an admin's key, and one of the parameters.",
                "params": {
                    name: described for one in DELETION for name, described in describe(one).items()
                },
                "responses": vote_schemas.responses({200: deleted}, 400, 401, 403, 404, 500, 503),
            },
        },
    )
    return space
