"""Additions to Swagger's document: the order of its paths, and examples of answers and errors."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from app.catalogue.catalogue import Catalogue, Endpoint, Model
from app.errors import TOO_BUSY, TOO_SLOW, RequestError, is_standard
from app.images.decode import not_an_image, too_many_pixels
from app.images.ink import blank
from app.images.upload import Upload, locate
from app.predict.classify import classify
from app.predict.compare import compare
from app.settings import Settings
from app.web.error_handlers import internal_error
from app.web.options import DEFAULT_TOP
from app.web.readiness import not_ready
from app.web.uploads import missing_image

METHODS = ("post", "get")  # of one path, classification comes first


def example_errors(catalogue: Catalogue, settings: Settings) -> dict[str, dict[str, Any]]:
    """Return an example of each error by its status, made by the function that raises it."""
    pixels = too_many_pixels("20000x20000 pixels", settings.max_pixels, width=20_000, height=20_000)
    errors = (
        missing_image(f"http://localhost:{settings.port}/predict"),
        _unknown_rule(catalogue.default),
        TOO_SLOW,
        locate(pixels, 0, Upload(b"", "map.png"), 1),
        locate(not_an_image(), 0, Upload(b"", "notes.txt"), 1),
        locate(blank(), 0, Upload(b"", "white.png"), 1),
        internal_error(),
        TOO_BUSY,
    )
    return {str(error.status): error.body() for error in errors}


def _unknown_rule(endpoint: Endpoint) -> RequestError:
    try:
        endpoint.find("none")
    except RequestError as error:
        return error.again()
    raise AssertionError("no rule can be called none")


def arrange(
    paths: dict[str, Any], order: Iterable[str], errors: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Return `paths` in the `order` in which the routes were added, with examples of `errors`.

    `errors` has an example for each status. Of the methods of a path, METHODS come first.
    """
    arranged = {}
    # A dictionary keeps the order of insertion, in which Swagger UI shows the paths.
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
                if status in errors:
                    unready = status == "503" and path.startswith("/health/")
                    example = not_ready().body() if unready else errors[status]
                    response["examples"] = {"application/json": in_shape(path, example)}
    return arranged


def in_shape(path: str, error: dict[str, Any]) -> dict[str, Any]:
    """Return the example of an `error` in the shape of the protocol of `path`."""
    return {"error": error["message"]} if is_standard(path) else error


def add_real_answers(paths: dict[str, Any], catalogue: Catalogue, settings: Settings) -> None:
    """Add to each classification and comparison in `paths` the real answer to its first sample.

    Operations without samples, and models that cannot be run, get no example. Sessions that are
    opened for this are closed again, so that the documentation takes no memory afterwards.
    """
    for dataset, endpoints in catalogue.datasets.items():
        models = [_passing(endpoint.find()) for endpoint in endpoints]
        for endpoint, model in zip(endpoints, models, strict=True):
            for path in [endpoint.path, *(["/predict"] if endpoint is catalogue.default else [])]:
                _add(paths, path, _classified(endpoint, model, settings))
        sample = _sample(endpoints[0])  # the endpoints of a data set have the same samples
        if sample:
            try:
                answer: Any = compare(models, sample, settings, top=DEFAULT_TOP, raw=False)
            except RequestError:
                continue
            _add(paths, f"/api/{dataset}/compare", answer)


def _classified(endpoint: Endpoint, model: Model, settings: Settings) -> Any:
    sample = _sample(endpoint)
    if sample is None:
        return None
    try:
        top = min(DEFAULT_TOP, len(model.card.labels))
        return classify(model, [sample], settings, top=top, raw=False)
    except RequestError:
        return None


def _sample(endpoint: Endpoint) -> Upload | None:
    """Return the endpoint's first sample, or None."""
    for name, data in endpoint.samples.items():
        return Upload(data, f"{name}.png")
    return None


def _passing(model: Model) -> Model:
    """Return `model` if its session is open, else a copy whose session is closed after use."""
    return model if model.tried else dataclasses.replace(model)


def _add(paths: dict[str, Any], path: str, answer: Any) -> None:
    if answer is not None and path in paths:
        paths[path]["post"]["responses"]["200"]["examples"] = {"application/json": answer}
