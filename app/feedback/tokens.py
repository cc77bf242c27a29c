"""The ids of predictions: signed tokens, so that only ids which the service gave out are valid.

A token is base64url of a signature and a text. The text has the number of the request, the index of
the picture in it, the model, its version, the asker and the time of expiry. The signature is the
first 16 bytes of HMAC-SHA-256 with the secret of the store of votes.
"""

import base64
import binascii
import hashlib
import hmac
import re
import time
from dataclasses import dataclass

from app.errors import RequestError

MOST_CHARACTERS = 1024
ADDRESS = re.compile("address:[0-9a-f]{24}")  # what stands for an asker without a key
_SIGNATURE = 16  # bytes
_TEXT = re.compile(
    r"(?P<request>[0-9a-f]{24})\|(?P<index>\d{1,5})\|(?P<model>[a-z0-9-]{1,300})\|"
    r"(?P<version>\d{1,10})\|(?P<expires>\d{1,12})\|(?P<asker>.{1,100})",
    re.DOTALL,
)


@dataclass(frozen=True)
class Ticket:
    """What a token says."""

    request: str  # a random number of the service, 24 hexadecimal digits
    index: int  # of the picture in the request, from 0
    model: str
    version: int
    expires: int  # seconds since 1970, UTC
    asker: str  # `key:NAME`, or `address:` and a hash

    @property
    def id(self) -> str:
        """Return the id of the prediction in the store."""
        return f"{self.request}.{self.index}"


def sign(ticket: Ticket, secret: bytes) -> str:
    """Return the token of `ticket`."""
    it = ticket
    fields = it.request, it.index, it.model, it.version, it.expires, it.asker
    text = "|".join(map(str, fields)).encode()
    return base64.urlsafe_b64encode(_signature(text, secret) + text).decode()


def read_token(token: str, secret: bytes) -> Ticket:
    """Return what `token` says.

    Raises RequestError 404 if the service has not given it out, and 410 if it has expired.
    """
    ticket = verify(token, secret)
    if ticket.expires < time.time():
        message = "The time for a vote about this prediction is over, and it was deleted."
        raise RequestError(410, "prediction_expired", message)
    return ticket


def verify(token: str, secret: bytes) -> Ticket:
    """Return what `token` says, also if it has expired. Raises RequestError 404 as `read_token`."""
    if len(token) > MOST_CHARACTERS:
        raise unknown_prediction()
    try:
        signed = base64.b64decode(token.encode("ascii"), b"-_", validate=True)
    except (ValueError, binascii.Error):  # UnicodeEncodeError is a ValueError
        raise unknown_prediction() from None
    if base64.urlsafe_b64encode(signed) != token.encode():  # base64 has other spellings of it
        raise unknown_prediction()
    given, text = signed[:_SIGNATURE], signed[_SIGNATURE:]
    if not hmac.compare_digest(given, _signature(text, secret)):
        raise unknown_prediction()
    found = _TEXT.fullmatch(text.decode("utf-8", "replace"))
    if found is None:  # signed by another version of this program
        raise unknown_prediction()
    return Ticket(
        found["request"],
        int(found["index"]),
        found["model"],
        int(found["version"]),
        int(found["expires"]),
        found["asker"],
    )


def hash_address(address: str, secret: bytes) -> str:
    """Return what stands for the asker at `address` where no key is needed.

    The address cannot be found from it without the secret of the store.
    """
    return f"address:{hmac.digest(secret, address.encode(), hashlib.sha256).hex()[:24]}"


def unknown_prediction() -> RequestError:
    """Return the refusal of a vote about a prediction that the service does not know."""
    message = (
        "There is no such prediction. Send the prediction_id of an answer as it was; predictions "
        "without a vote are deleted when METAPLASTIC_FEEDBACK_WAIT is over."
    )
    return RequestError(404, "unknown_prediction", message)


def _signature(text: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, text, hashlib.sha256)[:_SIGNATURE]
