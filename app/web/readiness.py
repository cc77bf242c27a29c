"""The service's readiness: whether the default model can answer."""

from app.catalogue.catalogue import Catalogue
from app.errors import RequestError


def check_ready(catalogue: Catalogue) -> None:
    """Raise RequestError 503 if the default model cannot answer."""
    if catalogue.default_problem:
        raise not_ready()


def not_ready() -> RequestError:
    """Return the error of a service whose default model cannot answer."""
    message = "The default model cannot be run; the log says why."
    return RequestError(503, "not_ready", message)
