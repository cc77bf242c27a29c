"""/api/<dataset>/<architecture>/explain: which parts of an image support a class."""

from typing import Any

from flask import Response, request
from werkzeug.datastructures import MIMEAccept, MultiDict

from app.api.classify import ONE_IMAGE
from app.catalogue.catalogue import Endpoint
from app.predict.explain import MOST_EVALUATIONS, explain, overlay
from app.settings import Settings
from app.web import schemas
from app.web.answers import Resource, answer
from app.web.options import (
    EXPLANATION,
    describe,
    describe_choice,
    describe_form,
    read_choice,
    read_model,
    refuse_unknown,
)
from app.web.uploads import read_uploads

FORMATS = {"json": "application/json", "png": "image/png"}


class Explain(Resource):
    """A resource that answers with a heat map of one image."""

    def __init__(self, api: Any, endpoint: Endpoint, settings: Settings) -> None:
        super().__init__(api)
        self.endpoint = endpoint
        self.settings = settings

    def post(self) -> Response:
        """Show which parts of an image support a class."""
        refuse_unknown(request.args, EXPLANATION)
        model = read_model(request.args, self.endpoint)
        kind = _read_format(request.args, request.accept_mimetypes)
        raw = read_choice(request.args, "preprocess") == "raw"
        label = request.args.get("label") or None
        (upload,) = read_uploads(request, self.endpoint.samples, max_images=1)
        explanation = explain(model, upload, self.settings, label=label, raw=raw)
        if kind == "image/png":
            # Caches must keep the answers to different Accept headers apart.
            return Response(overlay(explanation), content_type=kind, headers={"Vary": "Accept"})
        response = answer(
            {**explanation.answer} | ({"filename": upload.filename} if upload.filename else {})
        )
        response.headers["Vary"] = "Accept"
        return response


def _read_format(query: MultiDict[str, str], accept: MIMEAccept) -> str:
    """Return the content type of the answer. Raises RequestError 400.

    The parameter `format` takes precedence over the header `Accept`.
    """
    if wanted := read_choice(query, "format"):
        return FORMATS[wanted]
    return accept.best_match(FORMATS.values(), default=FORMATS["json"])


def add_route(namespace: Any, endpoint: Endpoint, settings: Settings) -> None:
    """Add the documented explanation of one architecture to the namespace of its data set."""
    labels = list(endpoint.find().card.labels)
    doc = {
        "id": f"explain_{endpoint.identifier}",
        "description": (
            f"Show which parts of an image support a class for {endpoint.name}\n\n"
            "One patch after another is hidden. The evidence for the class (log-odds in bits) that "
            "is lost with each patch becomes a heat map: numbers, or a picture in which orange "
            "parts support the class and blue parts oppose it. "
            f"The network is run at most {MOST_EVALUATIONS} times.\n\n"
            f"{ONE_IMAGE}."
        ),
        "produces": list(FORMATS.values()),
        "params": {
            **describe_form(endpoint.samples),
            **describe_choice(endpoint),
            **describe("label", enum=labels),
            **describe("format"),
            **describe("preprocess"),
        },
        "responses": schemas.responses(
            {200: ("The heat map of the image.", schemas.explanation)},
            *schemas.CLASSIFICATION_ERRORS,
        ),
    }
    namespace.add_resource(
        Explain,
        f"/{endpoint.architecture}/explain",
        endpoint=f"{endpoint.name}/explain",
        resource_class_kwargs={"endpoint": endpoint, "settings": settings},
        route_doc={"post": doc},
    )
