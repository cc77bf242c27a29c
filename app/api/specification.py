"""What Swagger shows beyond the routes themselves: their order, and answers as they really are."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from app.catalogue.catalogue import Catalogue, Endpoint, Model
from app.errors import RequestError, is_standard
from app.images.upload import Upload
from app.predict.classify import classify
from app.predict.compare import compare
from app.settings import Settings

TOP = 3  # classes in an example, as by default
METHODS = ("post", "get")  # what people come for, first

# One error of each status, as the service words it.
ERRORS: dict[str, dict[str, Any]] = {
    "400": {
        "message": "There is no image in the request. For example: curl -F file=@image.png URL",
        "code": "missing_image",
    },
    "401": {
        "message": "A key is needed: send it as X-API-Key, or as Authorization: Bearer.",
        "code": "missing_key",
    },
    "404": {
        "message": "mnist/lenet has no rule 'none'; it has: metaplastic, backprop.",
        "code": "unknown_rule",
        "rules": ["metaplastic", "backprop"],
    },
    "408": {
        "message": "The request took too long to come. Send it faster, or smaller.",
        "code": "too_slow",
    },
    "413": {
        "message": "The picture has 20000x20000 pixels; at most 50000000 in all are accepted. "
        "Send it smaller.",
        "code": "too_many_pixels",
        "index": 0,
        "filename": "map.png",
        "max_pixels": 50_000_000,
        "width": 20_000,
        "height": 20_000,
    },
    "415": {
        "message": "The file is not a picture of a known format. Send PNG, JPEG, GIF, WebP, AVIF, "
        "HEIC, TIFF, PPM or BMP.",
        "code": "not_an_image",
        "index": 0,
        "filename": "notes.txt",
    },
    "422": {
        "message": "Nothing stands out in the picture: it is blank or nearly so.",
        "code": "no_content",
        "index": 0,
        "filename": "white.png",
    },
    "429": {
        "message": "The limit is 60 per 1 minute; Retry-After says when to try again.",
        "code": "rate_limited",
    },
    "500": {
        "message": "The service failed; the fault is its own and has been logged.",
        "code": "internal_error",
    },
    "503": {
        "message": "More requests wait than can be answered soon. Try again.",
        "code": "too_busy",
    },
}
NOT_READY: dict[str, Any] = {
    "message": "The default model cannot be run; the log says why.",
    "code": "not_ready",
}


def arrange(paths: dict[str, Any], order: Iterable[str]) -> dict[str, Any]:
    """`paths` in the `order` in which the routes were added, each with an example of its errors."""
    arranged = {}
    for path in dict.fromkeys([*order, *paths]):
        if path not in paths:
            continue
        operations = paths[path]
        known = [*METHODS, *operations]
        arranged[path] = {
            name: operations[name] for name in dict.fromkeys(known) if name in operations
        }
        for name in METHODS:
            for status, response in operations.get(name, {}).get("responses", {}).items():
                if status in ERRORS:
                    unready = status == "503" and path.startswith("/health/")
                    example = NOT_READY if unready else ERRORS[status]
                    response["examples"] = {"application/json": in_shape(path, example)}
    return arranged


def in_shape(path: str, error: dict[str, Any]) -> dict[str, Any]:
    """Return an example of an `error` as who asks for `path` gets it."""
    return {"error": error["message"]} if is_standard(path) else error


def add_real_answers(paths: dict[str, Any], catalogue: Catalogue, settings: Settings) -> None:
    """Give each classification and comparison in `paths` what its sample is really answered with.

    Not for what has no samples, or cannot be run. A session that is not open for other reasons is
    closed again, so that looking at the documentation costs no memory for good.
    """
    for dataset, endpoints in catalogue.datasets.items():
        models = [_passing(endpoint.find()) for endpoint in endpoints]
        for endpoint, model in zip(endpoints, models, strict=True):
            for path in [endpoint.path, *(["/predict"] if endpoint is catalogue.default else [])]:
                _add(paths, path, _classified(endpoint, model, settings))
        sample = _sample(endpoints[0])
        if sample:
            try:
                answer: Any = compare(models, sample, settings, top=TOP, raw=False)
            except RequestError:
                continue
            _add(paths, f"/api/{dataset}/compare", answer)


def _classified(endpoint: Endpoint, model: Model, settings: Settings) -> Any:
    sample = _sample(endpoint)
    if sample is None:
        return None
    try:
        top = min(TOP, len(model.card.labels))
        return classify(model, [sample], settings, top=top, raw=False)
    except RequestError:
        return None


def _sample(endpoint: Endpoint) -> Upload | None:
    """The image that its form names."""
    for name, data in endpoint.samples.items():
        return Upload(data, f"{name}.png")
    return None


def _passing(model: Model) -> Model:
    """`model`, or one whose session is gone with it where it has none yet."""
    return model if model.tried else dataclasses.replace(model)


def _add(paths: dict[str, Any], path: str, answer: Any) -> None:
    if answer is not None and path in paths:
        paths[path]["post"]["responses"]["200"]["examples"] = {"application/json": answer}
