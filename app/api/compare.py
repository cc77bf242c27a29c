"""/api/<dataset>/compare: one image, classified by every architecture."""

from typing import Any

from flask import Response, request

from app.api.classify import ONE_IMAGE
from app.catalogue.catalogue import Endpoint, find_each
from app.predict.compare import compare
from app.settings import Settings
from app.web import schemas
from app.web.answers import Resource, answer
from app.web.options import (
    COMPARISON,
    describe_comparison,
    read_options,
    refuse_unknown,
)
from app.web.uploads import read_uploads
from models.cards import COMPARE


class Comparison(Resource):
    """A resource that classifies one image with all architectures of a data set."""

    def __init__(self, api: Any, endpoints: list[Endpoint], settings: Settings) -> None:
        super().__init__(api)
        self.endpoints = endpoints
        self.settings = settings

    def post(self) -> Response:
        """Classify one image with every architecture, side by side."""
        refuse_unknown(request.args, COMPARISON)
        # `top` may be as large as the largest number of classes: see compare().
        models = find_each(self.endpoints, request.args.get("rule"))
        options = read_options(request.args, models)
        (upload,) = read_uploads(request, self.endpoints[0].samples, max_images=1)
        return answer(compare(models, upload, self.settings, top=options.top, raw=options.raw))


def add_route(namespace: Any, endpoints: list[Endpoint], settings: Settings) -> None:
    """Add the documented comparison of a data set's `endpoints` to its namespace."""
    dataset = endpoints[0].dataset
    name = dataset.replace("-", "_")
    architectures = ", ".join(endpoint.architecture for endpoint in endpoints)
    answered = ("The prediction of each model.", schemas.comparison)
    doc = {
        "id": f"{COMPARE}_{name}",
        "description": (
            f"Classify one image with each architecture of {dataset}: {architectures}\n\n"
            f"{ONE_IMAGE}.\n\n"
            "The image is prepared once for all models that take the same input."
        ),
        "params": describe_comparison(endpoints),
        "responses": schemas.responses({200: answered}, *schemas.CLASSIFICATION_ERRORS),
    }
    namespace.add_resource(
        Comparison,
        f"/{COMPARE}",
        endpoint=f"{dataset}/{COMPARE}",
        resource_class_kwargs={"endpoints": endpoints, "settings": settings},
        route_doc={"post": doc},
    )
