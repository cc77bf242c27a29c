"""API keys: who may ask, and who may load models.

A file of keys has a line for each, `name role sha256`, which app/new_key.py makes. A key is 256
random bits, so that its plain SHA-256 gives nothing away.

The file is read with every request that needs a key. It is small, and no process, old or new, can
go by keys of before: a line that is gone from the file is refused from the next request on.
"""

import hashlib
import hmac
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from flask import Flask, current_app, request
from werkzeug.sansio.request import Request

from app.errors import RequestError
from app.settings import StartError
from app.telemetry.record import current_record
from models.files import read_regular

HEADER = "X-API-Key"
ADMIN, USER = "admin", "user"
# What anybody may see: the documentation, the demonstration page, and what orchestrators ask.
_OPEN = frozenset({"/", "/swagger.json", "/demo", "/favicon.ico"})
_OPEN_BELOW = ("/health/", "/v2/health/", "/swaggerui/", "/static/", "/demo/")
LINE = re.compile(rf"(?P<name>[\w.@-]{{1,64}}) +(?P<role>{ADMIN}|{USER}) +(?P<hash>[0-9a-f]{{64}})")
_log = logging.getLogger(__name__)


class KeyFileError(StartError):
    """A file of keys that cannot be used: names it, the line, and what was expected."""


@dataclass(frozen=True)
class Key:
    """One line of the file."""

    name: str
    role: str  # ADMIN or USER
    hash: str  # SHA-256 of the key, hexadecimal


class KeyFile:
    """The keys of a file as it is now: an empty or missing file has none, a bad line is no key."""

    def __init__(self, path: Path) -> None:
        """Raise KeyFileError where the file cannot be used."""
        self.path = path
        self._keys = read_keys(path)
        self._content: bytes | None = None  # that was parsed last
        self._readable = True

    def find(self, given: str) -> Key | None:
        """The key that was `given`; all are compared, and each in the same time.

        Raises RequestError 503 where the file cannot be read.
        """
        found = None
        digest = hash_of(given)
        for key in self._current():
            if hmac.compare_digest(key.hash, digest):
                found = key
        return found

    def _current(self) -> tuple[Key, ...]:
        content = self._read()
        if content != self._content:
            self._content = content
            self._keys, problems = parse_keys(content, self.path)
            for problem in problems:
                _log.error("%s The other lines hold.", problem)
            if not self._keys:
                _log.error("METAPLASTIC_KEYS: %s has no key: nobody is let in.", self.path)
        return self._keys

    def _read(self) -> bytes:
        try:
            content = read_regular(self.path)
        except FileNotFoundError:
            content = b""
        except OSError as error:
            if self._readable:
                self._readable = False
                _log.error("METAPLASTIC_KEYS: %s cannot be read (%s).", self.path, error.strerror)
            message = "The keys cannot be read now; the log says why. Try again."
            raise RequestError(503, "keys_unreadable", message) from error
        self._readable = True
        return content


def require_keys(app: Flask, path: Path) -> None:
    """Refuse requests to `app` without a key of the file `path`, but for what anybody may see.

    Raises KeyFileError.
    """
    keys = app.extensions["keys"] = KeyFile(path)

    def check() -> None:
        check_key(keys, request)

    app.before_request(check)


def require_admin() -> None:
    """Raise RequestError 401 or 403 where the request shows no admin's key."""
    if "keys" not in current_app.extensions:
        message = "Only an admin's key may do this, and METAPLASTIC_KEYS names no file of keys."
        raise RequestError(403, "admin_key_needed", message)
    key = _shown(current_app.extensions["keys"], request)
    if key.role != ADMIN:
        message = f"Only an admin's key may do this; {key.name} is a {key.role}'s."
        raise RequestError(403, "admin_key_needed", message)


def is_open(path: str, method: str) -> bool:
    """Whether anybody may ask for `path`."""
    return method == "OPTIONS" or path in _OPEN or path.startswith(_OPEN_BELOW)


def check_key(keys: KeyFile, request: Request) -> None:
    """Raise RequestError 401 where `request` needs a key and shows none of `keys`."""
    if not is_open(request.path, request.method):
        key = _shown(keys, request)
        if record := current_record():
            record.caller = key.name


def _shown(keys: KeyFile, request: Request) -> Key:
    """Return the one of `keys` that the request shows. Raises RequestError 401."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    given = request.headers.get(HEADER) or (token.strip() if kind.lower() == "bearer" else "")
    if not given:
        message = f"A key is needed: send it as {HEADER}, or as Authorization: Bearer."
        raise RequestError(401, "missing_key", message)
    key = keys.find(given)
    if key is None:
        raise RequestError(401, "unknown_key", "This key is not known, or not any more.")
    return key


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys of the file `path`. Raises KeyFileError where it has none, or a bad line."""
    try:
        content = read_regular(path)
    except OSError as error:
        message = f"METAPLASTIC_KEYS: {path} cannot be read ({error.strerror})."
        raise KeyFileError(message) from error
    keys, problems = parse_keys(content, path)
    if problems:
        raise KeyFileError("\n".join(problems))
    if not keys:
        raise KeyFileError(
            f"METAPLASTIC_KEYS: {path} has no key. Make one: python -m app.new_key NAME"
        )
    return keys


def parse_keys(content: bytes, path: Path) -> tuple[tuple[Key, ...], list[str]]:
    """The keys of the file `path`, which has this content, and what is wrong with its other lines.

    The content is UTF-8, with or without a byte order mark.
    """
    keys, problems = [], []
    for number, line in enumerate(content.decode("utf-8-sig", "replace").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if match := LINE.fullmatch(text):
            keys.append(Key(**match.groupdict()))
        elif text:
            problems.append(
                f"METAPLASTIC_KEYS: {path} line {number}: expected `name role sha256`, as "
                "`python -m app.new_key NAME` makes it."
            )
    return tuple(keys), problems


def hash_of(key: str) -> str:
    """What stands in the file for `key`."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
