"""The names of models in the standard protocols: <dataset>-<architecture>-<rule>."""

from collections.abc import Mapping

from app.catalogue.catalogue import Catalogue, Model
from app.errors import RequestError
from app.telemetry.record import note_model


def find_versions(catalogue: Catalogue, name: str) -> Mapping[int, Model]:
    """Return the versions of the model `name`, the champion first. Raises RequestError 404."""
    for endpoint in catalogue.endpoints.values():
        for versions in endpoint.models.values():
            if next(iter(versions.values())).card.name == name:
                return versions
    known = ", ".join(sorted({model.card.name for model in catalogue}))
    message = f"There is no model {name[:100]!r}; there are: {known}."
    raise RequestError(404, "unknown_model", message)


def find_model(catalogue: Catalogue, name: str, version: str | None) -> Model:
    """Return a `version` of the model `name`, by default the champion. Raises RequestError 404."""
    versions = find_versions(catalogue, name)
    by_text = {str(number): model for number, model in versions.items()}
    model = by_text.get(version) if version else next(iter(versions.values()))
    if model is None:
        known = ", ".join(by_text)
        message = f"{name} has no version {str(version)[:40]!r}; it has: {known}."
        raise RequestError(404, "unknown_version", message)
    note_model(model.card.name, model.card.version)
    return model


def find_challenger(catalogue: Catalogue, name: str) -> Model | None:
    """Return the challenger of the model `name`, or None."""
    for endpoint in catalogue.endpoints.values():
        for challenger in endpoint.challengers.values():
            if challenger.card.name == name:
                return challenger
    return None
