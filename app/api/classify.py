"""/api/<dataset>/<architecture>: classification of images, and the model's card."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flask import Response, request, send_file

from app.catalogue.catalogue import Endpoint, Model
from app.errors import RequestError
from app.predict.classify import classify
from app.settings import Settings
from app.web import schemas
from app.web.addresses import asker_of
from app.web.answers import Content, Resource, answer, content_of, respond
from app.web.body import AnyRequest
from app.web.options import (
    CHOICE,
    CLASSIFICATION,
    describe_choice,
    describe_classification,
    read_model,
    read_options,
    refuse_unknown,
)
from app.web.uploads import read_uploads
from models.cards import Card

if TYPE_CHECKING:  # it brings SQLAlchemy along, which is needed only if votes are asked for
    from app.feedback.feedback import Feedback, Keeper


class Classifier(Resource):
    """A resource that classifies images."""

    def __init__(
        self, api: Any, endpoint: Endpoint, settings: Settings, feedback: Feedback | None
    ) -> None:
        super().__init__(api)
        self.endpoint = endpoint
        self.settings = settings
        self.feedback = feedback

    def post(self) -> Response:
        """Classify images, or the sample that the form names."""
        return respond(classification(request, self.endpoint, self.settings, self.feedback))


def classification(
    request: AnyRequest, endpoint: Endpoint, settings: Settings, feedback: Feedback | None
) -> Content:
    """Return the answer of `endpoint` to `request`. Raises RequestError."""
    query = request.args
    refuse_unknown(query, CLASSIFICATION)
    model = read_model(query, endpoint)
    options = read_options(query, [model])
    uploads = read_uploads(request, endpoint.samples, settings.max_images)
    return content_of(
        classify(
            model,
            uploads,
            settings,
            top=options.top,
            raw=options.raw,
            prepared=options.prepared,
            partial=options.partial,
            several=options.several,
            keeper=_keeper(request, endpoint, model, feedback) if feedback else None,
        )
    )


def _keeper(request: AnyRequest, endpoint: Endpoint, model: Model, feedback: Feedback) -> Keeper:
    """Return what keeps the predictions of `request` for votes.

    It has the challenger if the request leaves the version open, and if that one can be run.
    """
    challenger = None
    if feedback.canary and "version" not in request.args:
        challenger = endpoint.challengers.get(model.card.rule)
        if challenger and not (_alike(challenger.card, model.card) and not challenger.problem):
            challenger = None
    return feedback.keeper(asker_of(request, feedback.secret), model, challenger)


def _alike(one: Card, other: Card) -> bool:
    """Return whether two versions take the same pictures and tell the same classes apart."""
    return one.input == other.input and one.labels == other.labels


class Architecture(Classifier):
    """The classification and the card of one architecture of a data set."""

    def get(self) -> Response:
        """Return the model's card."""
        refuse_unknown(request.args, CHOICE)
        model = read_model(request.args, self.endpoint)
        return answer(
            {
                "endpoint": self.endpoint.path,
                "model": model.card.name,
                "rules": [
                    {"rule": rule, "versions": list(versions)}
                    for rule, versions in self.endpoint.models.items()
                ],
                "samples": list(self.endpoint.samples),
                "runs": model.runs,
                "card": _without_gaps(asdict(model.card)),
            }
        )


class Picture(Resource):
    """A picture in the folder of a model."""

    file: str  # its name in the folder

    def __init__(self, api: Any, endpoint: Endpoint) -> None:
        super().__init__(api)
        self.endpoint = endpoint

    def send(self) -> Response:
        refuse_unknown(request.args, CHOICE)
        model = read_model(request.args, self.endpoint)
        path = model.folder / self.file
        if not path.is_file():
            message = f"{model.card.name} version {model.card.version} has no {self.file}."
            raise RequestError(404, "no_such_picture", message)
        # Five minutes: a reload may replace the model of this URL.
        return send_file(path.resolve(), "image/png", max_age=300)


class Curves(Picture):
    """The picture of a model's learning curves."""

    file = "curves.png"

    def get(self) -> Response:
        """Return a picture of loss and accuracy by epoch."""
        return self.send()


class Confusion(Picture):
    """The picture of a model's confusion matrix."""

    file = "confusion.png"

    def get(self) -> Response:
        """Return a picture of the confusion matrix."""
        return self.send()


def add_routes(
    namespace: Any, endpoint: Endpoint, settings: Settings, feedback: Feedback | None
) -> None:
    """Add the documented routes of one architecture to the namespace of its data set."""
    name, url = endpoint.identifier, f"/{endpoint.architecture}"
    choice, answered = describe_choice(endpoint), ("The model and its card.", schemas.description)
    get_doc = {
        "id": f"describe_{name}",
        "params": choice,
        "responses": schemas.responses({200: answered}, 400, 404, 500),
    }
    namespace.add_resource(
        Architecture,
        url,
        endpoint=endpoint.name,
        resource_class_kwargs={
            "endpoint": endpoint,
            "settings": settings,
            "feedback": feedback,
        },
        route_doc={"post": classification_doc(endpoint, f"classify_{name}"), "get": get_doc},
    )
    for picture in (Curves, Confusion):
        stem, drawn = picture.file.partition(".")[0], ("A PNG image.", schemas.PNG)
        picture_doc = {
            "id": f"{stem}_{name}",
            "params": choice,
            "produces": ["image/png", "application/json"],
            "responses": schemas.responses({200: drawn}, 400, 404, 500),
        }
        namespace.add_resource(
            picture,
            f"{url}/{picture.file}",
            endpoint=f"{endpoint.name}/{stem}",
            resource_class_kwargs={"endpoint": endpoint},
            route_doc={"get": picture_doc},
        )


_MOST_CLASSES = 200  # listed in Swagger's text; the card has all

ONE_IMAGE = (
    "Instead of this form, the body may be an image (`Content-Type: image/png`, for example) or "
    'JSON with base64: `{"image": "..."}`'
)


def classification_doc(endpoint: Endpoint, operation: str) -> dict[str, Any]:
    """Return Swagger's description of a classification by `endpoint`."""
    best = endpoint.find().card
    measured = f", {best.test.accuracy:.2%} right on the test set" if best.test else ""
    more = len(best.labels) - _MOST_CLASSES
    classes = [*best.labels[:_MOST_CLASSES], *([f"and {more} more"] if more > 0 else [])]
    return {
        "id": operation,
        "description": (
            f"Classify images with {endpoint.name} ({best.parameters:,} parameters{measured})\n\n"
            f'{ONE_IMAGE} or `{{"images": ["...", "..."]}}`.\n\n'
            f"Classes: {', '.join(classes)}."
        ),
        "params": describe_classification(endpoint),
        "responses": schemas.responses(
            {
                200: (
                    "One prediction for each image, in their order.",
                    schemas.classification,
                )
            },
            *schemas.CLASSIFICATION_ERRORS,
        ),
    }


def _without_gaps(card: dict[str, Any]) -> dict[str, Any]:
    """Return `card` without empty fields, such as the test scores before it is published."""
    known = {name: value for name, value in card.items() if value is not None}
    if "int8" in known:
        known["int8"] = _without_gaps(known["int8"])
    return known
