"""Whether the service can answer."""

from app.catalogue.catalogue import Catalogue
from app.errors import RequestError


def check_ready(catalogue: Catalogue) -> None:
    """Raise RequestError 503 where the default model cannot answer."""
    if catalogue.default_problem:
        message = "The default model cannot be run; the log says why."
        raise RequestError(503, "not_ready", message)
