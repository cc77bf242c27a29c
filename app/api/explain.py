"""/api/<dataset>/<architecture>/explain: which parts of an image speak for a class."""

from typing import Any

from flask import Response, request
from werkzeug.datastructures import MIMEAccept, MultiDict

from app.api.classify import ONE_IMAGE
from app.catalogue.catalogue import Endpoint
from app.errors import RequestError
from app.predict.explain import MOST_EVALUATIONS, explain, overlay
from app.settings import Settings
from app.web import schemas
from app.web.answers import Resource, answer
from app.web.options import (
    CHOICE,
    describe_choice,
    describe_form,
    describe_preprocess,
    read_model,
    read_preprocess,
    refuse_unknown,
)
from app.web.uploads import read_uploads

PARAMETERS = (*CHOICE, "label", "format", "preprocess", "sample")
FORMATS = {"json": "application/json", "png": "image/png"}


class Explain(Resource):
    """One image in, a heat map out."""

    def __init__(self, api: Any, endpoint: Endpoint, settings: Settings) -> None:
        super().__init__(api)
        self.endpoint = endpoint
        self.settings = settings

    def post(self) -> Response:
        """Show which parts of an image speak for a class."""
        refuse_unknown(request.args, PARAMETERS)
        model = read_model(request.args, self.endpoint)
        kind = _read_format(request.args, request.accept_mimetypes)
        raw = read_preprocess(request.args)
        label = request.args.get("label") or None
        (upload,) = read_uploads(request, self.endpoint.samples, max_images=1)
        explanation = explain(model, upload, self.settings, label=label, raw=raw)
        if kind == "image/png":
            return Response(overlay(explanation), content_type=kind, headers={"Vary": "Accept"})
        response = answer(
            {**explanation.answer} | ({"filename": upload.filename} if upload.filename else {})
        )
        response.headers["Vary"] = "Accept"
        return response


def _read_format(query: MultiDict[str, str], accept: MIMEAccept) -> str:
    """The content type to answer with; what the URL says wins. Raises RequestError 400."""
    wanted = query.get("format")
    if not wanted:
        return accept.best_match(FORMATS.values(), default=FORMATS["json"])
    if wanted not in FORMATS:
        message = f"format: expected {' or '.join(FORMATS)}, found {wanted[:40]!r}."
        raise RequestError(400, "bad_parameter", message, parameter="format")
    return FORMATS[wanted]


def add_route(namespace: Any, endpoint: Endpoint, settings: Settings) -> None:
    """Add the documented explanation of one architecture to its data set's namespace."""
    labels = list(endpoint.find().card.labels)
    doc = {
        "id": f"explain_{endpoint.identifier}",
        "description": (
            f"Show which parts of an image speak for a class to {endpoint.name}\n\n"
            "Patch after patch is hidden, and the evidence (log-odds in bits) that goes with it "
            "becomes a heat map: numbers, or a picture in which orange speaks for the class and "
            f"blue against it. The network is asked at most {MOST_EVALUATIONS} times.\n\n"
            f"{ONE_IMAGE}."
        ),
        "produces": list(FORMATS.values()),
        "params": {
            **describe_form(endpoint.samples),
            **describe_choice(endpoint),
            "label": {
                "in": "query",
                "type": "string",
                "enum": labels,
                "description": "The class to explain; without one, the most probable.",
            },
            "format": {
                "in": "query",
                "type": "string",
                "enum": list(FORMATS),
                "description": "Numbers or a picture; without one, what the `Accept` header says.",
            },
            **describe_preprocess(),
        },
        "responses": schemas.responses(
            {200: ("The heat map of the image.", schemas.explanation)},
            *schemas.CLASSIFICATION_ERRORS,
        ),
    }
    namespace.add_resource(
        Explain,
        f"/{endpoint.architecture}/explain",
        endpoint=f"{endpoint.identifier}_explain",
        resource_class_kwargs={"endpoint": endpoint, "settings": settings},
        route_doc={"post": doc},
    )
