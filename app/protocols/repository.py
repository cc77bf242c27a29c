"""/v2/repository/...: the served models, and loading and unloading them at run time.

This is Triton's extension docs/protocol/extension_model_repository.md. Loading a model reads the
model repository again: see app/server/reload.py and app/protocols/replacement.py.
"""

from typing import Any

from flask import Blueprint, Response, current_app, request

from app.catalogue.catalogue import Catalogue, RepositoryError
from app.catalogue.load import load_catalogue, new_in
from app.errors import RequestError
from app.protocols.naming import find_versions
from app.protocols.replacement import changing, replace_workers, wait_for_the_end_of
from app.runtime import Unloaded
from app.settings import Settings
from app.web.answers import answer
from app.web.body import read_body, read_object
from app.web.keys import require_admin

_MOST_VALUES = 64  # values in a request's JSON, which has one or two options


def routes(catalogue: Catalogue, settings: Settings) -> Blueprint:
    """Return the routes below /v2/repository."""
    space = Blueprint("repository", __name__, url_prefix="/v2/repository")
    unloaded = Unloaded.of_this_service()

    @space.post("/index")
    def index() -> Response:
        ready_only = _options().get("ready") is True
        rows = [
            _row(model.card.name, str(model.card.version), "READY")
            for model in catalogue
            if not model.known_problem
        ]
        if not ready_only:
            ready = {(row["name"], row["version"]) for row in rows}
            rows += [
                _row(*found, "UNAVAILABLE", problem)
                for folder, problem in catalogue.problems.items()
                if (found := _name_and_version(catalogue, folder)) not in ready
            ]
            names = sorted(unloaded.read())
            rows += [_row(name, "", "UNAVAILABLE", "unloaded") for name in names]
        return answer(rows)

    @space.post("/models/<name>/load")
    def load(name: str) -> Response:
        require_admin()
        if _options().get("parameters"):
            message = "Parameters are not supported: a model is loaded as it was published."
            raise RequestError(400, "bad_parameter", message)
        with changing(current_app, unloaded):
            left = unloaded.read() - {name}
            _try_new_versions(name, catalogue, _read_repository(settings, left, catalogue))
            replaced = _serve_without(left, unloaded)
        wait_for_the_end_of(replaced, current_app)
        return answer({})

    @space.post("/models/<name>/unload")
    def unload(name: str) -> Response:
        require_admin()
        find_versions(catalogue, name)  # raises RequestError 404 for an unknown model
        with changing(current_app, unloaded):
            left = unloaded.read() | {name}
            # Raises if no model would be left.
            _read_repository(settings, left, catalogue)
            replaced = _serve_without(left, unloaded)
        wait_for_the_end_of(replaced, current_app)
        return answer({})

    return space


def _serve_without(left: frozenset[str], unloaded: Unloaded) -> set[int]:
    """Reload the service without the models `left`. Return the process ids of the replaced workers.

    Raises RequestError 501 or 503; then nothing has changed.
    """
    # The master reads the list when it reloads, so it is written first and restored on failure.
    before = unloaded.read()
    unloaded.write(left)
    try:
        return replace_workers(current_app)
    except RequestError:
        unloaded.write(before)
        raise


def _options() -> dict[str, Any]:
    body = read_body(request)
    return read_object(body, "an object", _MOST_VALUES) if body else {}


def _row(name: str, version: str, state: str, reason: str = "") -> dict[str, str]:
    return {"name": name, "version": version, "state": state, "reason": reason}


def _read_repository(settings: Settings, unloaded: frozenset[str], served: Catalogue) -> Catalogue:
    """Return the current models. Raises RequestError 400 if they cannot be served."""
    try:
        return load_catalogue(settings, lambda model: model.card.name in unloaded, served=served)
    except RepositoryError as error:
        raise _cannot_load(str(error)) from error


def _try_new_versions(name: str, served: Catalogue, found: Catalogue) -> None:
    """Run each version of a model that is not served yet. Raises RequestError 400 or 404."""
    for folder, problem in found.left_out.items():
        if _name_and_version(found, folder)[0] == name and folder not in served.left_out:
            raise _cannot_load(problem)
    for model in new_in(find_versions(found, name).values(), served):
        if model.problem:
            raise _cannot_load(model.problem)


def _name_and_version(catalogue: Catalogue, folder: str) -> tuple[str, str]:
    """Return the name and the version of the model in `folder`, even if its card cannot be read.

    They follow from the folders <dataset>/<architecture>/<rule>/<version>, some of which may be
    above the catalogue's root. The folder of a run is the run's name, and has no version.
    """
    *_, dataset, architecture, rule, version = (catalogue.root / folder).resolve().parts
    if version.isdigit():
        return f"{dataset}-{architecture}-{rule}", version
    return version, ""


def _cannot_load(problem: str) -> RequestError:
    return RequestError(400, "cannot_load", f"The served models stay as they are: {problem}")
