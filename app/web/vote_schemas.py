"""The schemas of votes and of what a model has learned from them, for Swagger."""

from typing import Any

from flask_restx import Model, fields

from app.web.schemas import error

_TOKEN = "3q2-7wABzQ4q9Yk1tT0u6WQ5ZTA3..."  # noqa: S105  (an example)

vote = Model(
    "Vote",
    {
        "prediction_id": fields.String(
            description="The `prediction_id` of an answer.", example=_TOKEN, required=True
        ),
        "reward": fields.Integer(
            description="1 if the answer is right, 0 if it is wrong.", example=1, enum=[0, 1]
        ),
        "label": fields.String(
            description="In place of `reward`: the class that is right. It is worth more.",
        ),
    },
)
accepted_votes = Model(
    "AcceptedVotes",
    {"accepted": fields.Integer(description="The number of votes.", example=1, required=True)},
)
deleted_votes = Model(
    "DeletedVotes",
    {
        "deleted": fields.Integer(
            description="The number of predictions.", example=12, required=True
        )
    },
)
done = Model(
    "LearningStep",
    {
        "status": fields.String(
            description="What happens now.",
            enum=["requested", "promoted", "rolled back"],
            required=True,
        ),
        "champion": fields.Integer(description="The version that answers, or will in a moment."),
        "challenger": fields.Integer(description="The candidate for its place."),
    },
)
_COUNTS = {
    "up": fields.Integer(description="Votes that say: right.", example=40, required=True),
    "down": fields.Integer(description="Votes that say: wrong.", example=2, required=True),
    "labelled": fields.Integer(
        description="Those of both that name the right class.", example=1, required=True
    ),
}
day = Model(
    "VotesOfDay",
    {
        "day": fields.String(description="UTC.", example="2026-11-28", required=True),
        "label": fields.String(
            description="The class that was answered.", example="7", required=True
        ),
        **_COUNTS,
    },
)
version = Model(
    "VotesOfVersion",
    {
        "rule": fields.String(example="metaplastic", required=True),
        "version": fields.Integer(example=4, required=True),
        **_COUNTS,
        "share_up": fields.Float(
            description="The share of answers that are right, as voters say: live accuracy.",
            min=0,
            max=1,
            example=0.952,
            required=True,
        ),
    },
)
gate = Model(
    "Gate",
    {
        "gate": fields.String(description="What was tested.", example="home", required=True),
        "verdict": fields.String(example="passed", required=True),
        "reason": fields.String(description="The figures behind it.", required=True),
        "votes": fields.Integer(description="Votes or images that were compared.", required=True),
    },
)
challenger = Model(
    "Challenger",
    {
        "version": fields.Integer(example=5, required=True),
        "rule": fields.String(example="metaplastic", required=True),
        "at": fields.String(description="UTC.", example="2026-11-28T18:00:00Z", required=True),
        "outcome": fields.String(description="What came of it.", example="promoted", required=True),
        "gates": fields.List(fields.Nested(gate), required=True),
    },
)
event = Model(
    "LearningEvent",
    {
        "kind": fields.String(
            description="`challenger`, `promoted`, `rolled back` or `requested`.",
            example="promoted",
            required=True,
        ),
        "rule": fields.String(example="metaplastic", required=True),
        "at": fields.String(description="UTC.", example="2026-11-28T18:00:00Z", required=True),
        "version": fields.Integer(description="That it is about.", example=5),
    },
)
learning = Model(
    "Learning",
    {
        "endpoint": fields.String(example="/api/mnist/lenet", required=True),
        "model": fields.String(example="mnist-lenet-metaplastic", required=True),
        "champion": fields.Integer(
            description="The version that answers.", example=4, required=True
        ),
        "challenger": fields.Integer(description="The candidate for its place.", example=5),
        "former": fields.Integer(description="The champion before it, for a rollback."),
        "votes": fields.Integer(description="All votes.", example=412, required=True),
        "by_day": fields.List(
            fields.Nested(day), description="Votes of the last 30 days.", required=True
        ),
        "by_version": fields.List(fields.Nested(version), required=True),
        "last_challenger": fields.Nested(challenger, allow_null=False),
        "events": fields.List(fields.Nested(event), description="The newest first.", required=True),
    },
)

_MODELS = (
    *(vote, accepted_votes, deleted_votes, done),
    *(day, version, gate, challenger, event, learning),
)

_ERRORS = {
    400: "The request or a vote cannot be read.",
    401: "The key is missing or unknown.",
    403: "The prediction was made for another key, or this needs the key of an admin.",
    404: "There is no such prediction or model.",
    408: "The request took too long to arrive.",
    409: "There is no such version to change to, or it cannot be used.",
    410: "The time for a vote about this prediction is over.",
    413: "Too many bytes or votes.",
    422: "The data set has no such class.",
    500: "A fault of the service.",
    503: "The store of votes cannot be reached, or the service is too busy. Try again.",
}


def register(api: Any) -> None:
    """Add the schemas to `api`."""
    for model in _MODELS:
        api.models[model.name] = model


def responses(success: dict[int, tuple[str, Any]], *errors: int) -> dict[int, tuple[str, Any]]:
    """Return Swagger's responses of an operation: `success`, and the `errors`."""
    return success | {status: (_ERRORS[status], error) for status in errors}
