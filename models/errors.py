"""The base class of the errors that this package raises on purpose."""


class MetaplasticError(Exception):
    """An error that the caller can fix. The message says what was wrong and what to do."""
