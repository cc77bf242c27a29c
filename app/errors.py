"""The one exception that a request may end with, and the JSON that it becomes."""

from typing import Any


class RequestError(Exception):
    """A request that cannot be answered: what was wrong, what was expected, what to do.

    `status` is the HTTP status, `code` a short name for programs (`not_an_image`), `message` the
    sentence for people, `details` further fields of the answer (which image of a batch, a limit).
    """

    def __init__(self, status: int, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details

    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        return {"message": self.message, "code": self.code, **self.details}
