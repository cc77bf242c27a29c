"""/api/<dataset>/<architecture>/learning: what a model has learned from votes, and its versions.

An admin asks for a challenger by .../learn, makes it the champion by .../promote, and returns to
the former champion by .../rollback.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flask import Response, current_app, request

from app.catalogue.catalogue import Endpoint, Model, RepositoryError
from app.catalogue.load import load_model
from app.errors import RequestError
from app.feedback.feedback import Feedback
from app.telemetry.record import note_model
from app.web import vote_schemas
from app.web.answers import Resource, answer
from app.web.keys import require_admin
from app.web.options import describe, refuse_unknown
from models import aliases, votes

_DAYS, _EVENTS = 30, 20
_RULE = ("rule",)


class Learned(Resource):
    """A resource about the learning of one architecture."""

    def __init__(self, api: Any, endpoint: Endpoint, feedback: Feedback) -> None:
        super().__init__(api)
        self.endpoint = endpoint
        self.feedback = feedback

    def champion(self) -> Model:
        """Return the champion of the rule that the request names. Raises RequestError."""
        refuse_unknown(request.args, _RULE)
        model = self.endpoint.find(request.args.get("rule"))
        note_model(model.card.name, model.card.version)
        return model

    def note(self, kind: str, model: Model, version: int) -> None:
        """Record what was done. If the store cannot be reached, the log says so."""
        card = model.card
        try:
            self.feedback.do(
                lambda store: votes.note_event(
                    store, kind, card.dataset, card.architecture, card.rule, {"version": version}
                )
            )
        except RequestError:
            current_app.logger.warning("%s: %s version %d", card.name, kind, version)


class Learning(Learned):
    """What a model has learned from votes."""

    def get(self) -> Response:
        """Show the votes, the live accuracy of each version, and the last challenger."""
        model = self.champion()
        return answer(self.feedback.do(lambda store: learning(self.endpoint, model, store)))


class Learn(Learned):
    """The wish for a challenger."""

    def post(self) -> Response:
        """Ask the learner for a challenger. It looks for such wishes every few seconds."""
        require_admin()
        card = self.champion().card
        self.feedback.do(
            lambda store: votes.note_event(
                store, votes.REQUESTED, card.dataset, card.architecture, card.rule
            )
        )
        return answer({"status": "requested"}, 202)


class Promote(Learned):
    """The promotion of the challenger."""

    def post(self) -> Response:
        """Make the challenger the champion, whatever its gates say."""
        require_admin()
        model = self.champion()
        found = _change(model, "challenger", _promote)
        self.note(votes.PROMOTED, model, found.champion or 0)
        return answer(_done(votes.PROMOTED, found), 202)


class Rollback(Learned):
    """The return to the former champion."""

    def post(self) -> Response:
        """Make the former champion the champion again."""
        require_admin()
        model = self.champion()
        found = _change(model, "former", _roll_back)
        self.note(votes.ROLLED_BACK, model, found.champion or 0)
        return answer(_done(votes.ROLLED_BACK, found), 202)


def _promote(folder: Path, version: int | None, answering: int) -> aliases.Aliases:
    return aliases.promote(folder, version, answering=answering)


def _roll_back(folder: Path, version: int | None, answering: int) -> aliases.Aliases:
    return aliases.roll_back(folder)


def _change(
    model: Model, which: str, change: Callable[[Path, int | None, int], aliases.Aliases]
) -> aliases.Aliases:
    """Make the version with the alias `which` the champion of `model`. Raises RequestError 409.

    The master sees the change within a second, and replaces the workers.
    """
    if model.folder.name != str(model.card.version):
        message = f"{model.card.name} is a single run, and not in a repository with versions."
        raise RequestError(409, "no_such_alias", message)
    folder = model.folder.parent
    try:
        version = getattr(aliases.read_aliases(folder), which)
        if aliases.has_version(folder, version):
            # A version that the service cannot read would leave the answers to another one.
            load_model(folder / str(version), current_app.extensions["settings"])
        return change(folder, version, model.card.version)
    except (aliases.AliasError, RepositoryError) as error:
        # The path of the folder is the operator's business.
        current_app.logger.warning("%s", error)
        message = str(error).replace(f"{folder}", model.card.name).removesuffix(".")
        unusable = isinstance(error, aliases.VersionError | RepositoryError)
        code = "unusable_version" if unusable else "no_such_alias"
        raise RequestError(409, code, f"{message}.") from None


def _done(status: str, found: aliases.Aliases) -> dict[str, Any]:
    known = {"champion": found.champion, "challenger": found.challenger}
    return {"status": status, **{name: at for name, at in known.items() if at is not None}}


def learning(endpoint: Endpoint, model: Model, store: votes.Store) -> dict[str, Any]:
    """Return what `model` has learned, from the `store`. Raises VotesError."""
    dataset, architecture = model.card.dataset, model.card.architecture
    labels = model.card.labels
    by_version = votes.votes_by_version(store, dataset, architecture)
    rule = model.card.rule
    known = [
        event
        for event in votes.events(store, dataset, architecture, most=5 * _EVENTS)
        if event.rule == rule
    ]
    made = [event for event in known if event.kind == votes.CHALLENGER]
    challenger = endpoint.challengers.get(rule)
    former = _former(model)
    return {
        "endpoint": endpoint.path,
        "model": model.card.name,
        "champion": model.card.version,
        **({"challenger": challenger.card.version} if challenger else {}),
        **({"former": former} if former is not None else {}),
        "votes": sum(one.up + one.down for one in by_version),
        "by_day": [
            {
                "day": one.day,
                "label": labels[one.label] if one.label < len(labels) else str(one.label),
                "up": one.up,
                "down": one.down,
                "labelled": one.labelled,
            }
            for one in votes.votes_by_day(store, dataset, architecture, days=_DAYS)
        ],
        "by_version": [
            {
                "rule": one.rule,
                "version": one.version,
                "up": one.up,
                "down": one.down,
                "labelled": one.labelled,
                "share_up": round(one.share_up, 6),
            }
            for one in by_version
        ],
        **({"last_challenger": _challenger(made[0])} if made else {}),
        "events": [_event(event) for event in known[:_EVENTS]],
    }


def _former(model: Model) -> int | None:
    try:
        return aliases.read_aliases(model.folder.parent).former
    except aliases.AliasError:  # the log of the start says so
        return None


def _challenger(event: votes.Event) -> dict[str, Any]:
    content = event.content
    return {
        "version": content.get("version", 0),
        "rule": event.rule,
        "at": _time(event.at),
        "outcome": content.get("outcome", ""),
        "gates": content.get("gates", []),
    }


def _event(event: votes.Event) -> dict[str, Any]:
    # A wish that the learner has seen is still a wish.
    kind = votes.REQUESTED if event.kind == votes.TAKEN else event.kind
    about = {"version": event.content["version"]} if "version" in event.content else {}
    return {"kind": kind, "rule": event.rule, "at": _time(event.at), **about}


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def add_routes(namespace: Any, endpoint: Endpoint, feedback: Feedback) -> None:
    """Add the documented routes of one architecture to the namespace of its data set."""
    choice = describe("rule", enum=list(endpoint.models), default=endpoint.default_rule)
    shown = {200: ("What it has learned.", vote_schemas.learning)}
    begun = {202: ("It was done. Answers follow within a few seconds.", vote_schemas.done)}
    errors = (400, 404, 500, 503)
    for resource, verb, name, success, more in (
        (Learning, "get", "learning", shown, ()),
        (Learn, "post", "learn", begun, (401, 403)),
        (Promote, "post", "promote", begun, (401, 403, 409)),
        (Rollback, "post", "rollback", begun, (401, 403, 409)),
    ):
        namespace.add_resource(
            resource,
            f"/{endpoint.architecture}/{name}",
            endpoint=f"{endpoint.name}/{name}",
            resource_class_kwargs={"endpoint": endpoint, "feedback": feedback},
            route_doc={
                verb: {
                    "id": f"{name}_{endpoint.identifier}",
                    "params": choice,
                    "responses": vote_schemas.responses(success, *errors, *more),
                }
            },
        )
