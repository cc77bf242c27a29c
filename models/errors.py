"""The base of every error that this package raises on purpose."""


class MetaplasticError(Exception):
    """Something that the caller can put right: says what was wrong and what to do."""
