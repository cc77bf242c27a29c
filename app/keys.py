"""API keys: who may ask, and who may load models.

A file of keys has a line for each, `name role sha256`, which app/new_key.py makes. A key is 256
random bits, so that its plain SHA-256 gives nothing away. The file is read again when it changes.
"""

import hashlib
import hmac
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from flask import Flask, current_app, request

from app.errors import RequestError
from app.records import current_record
from app.settings import StartError

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
    """The keys of a file, read again when it changes; a broken change leaves the old ones."""

    def __init__(self, path: Path) -> None:
        """Raise KeyFileError where the file cannot be used."""
        self.path = path
        self._state = _state(path)
        self._keys = read_keys(path)

    def find(self, given: str) -> Key | None:
        """The key that was `given`; all are compared, and each in the same time."""
        found = None
        digest = hash_of(given)
        for key in self._current():
            if hmac.compare_digest(key.hash, digest):
                found = key
        return found

    def _current(self) -> tuple[Key, ...]:
        state = _state(self.path)
        if state != self._state:
            self._state = state  # tried once, whatever comes of it
            try:
                self._keys = read_keys(self.path)
            except KeyFileError as error:
                _log.error("%s The keys of before stay valid.", error)
        return self._keys


def require_keys(app: Flask, path: Path) -> None:
    """Refuse requests to `app` without a key of the file `path`, but for what anybody may see.

    Raises KeyFileError.
    """
    app.extensions["keys"] = KeyFile(path)
    app.before_request(_check)


def require_admin() -> None:
    """Raise RequestError 401 or 403 where the request shows no admin's key."""
    if "keys" not in current_app.extensions:
        message = "Only an admin's key may do this, and METAPLASTIC_KEYS names no file of keys."
        raise RequestError(403, "admin_key_needed", message)
    key = _shown()
    if key.role != ADMIN:
        message = f"Only an admin's key may do this; {key.name} is a {key.role}'s."
        raise RequestError(403, "admin_key_needed", message)


def is_open(path: str, method: str) -> bool:
    """Whether anybody may ask for `path`."""
    return method == "OPTIONS" or path in _OPEN or path.startswith(_OPEN_BELOW)


def _check() -> None:
    if not is_open(request.path, request.method):
        key = _shown()
        if record := current_record():
            record.caller = key.name


def _shown() -> Key:
    """The key that the request shows. Raises RequestError 401."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    given = request.headers.get(HEADER) or (token.strip() if kind.lower() == "bearer" else "")
    if not given:
        message = f"A key is needed: send it as {HEADER}, or as Authorization: Bearer."
        raise RequestError(401, "missing_key", message)
    keys: KeyFile = current_app.extensions["keys"]
    key = keys.find(given)
    if key is None:
        raise RequestError(401, "unknown_key", "This key is not known, or not any more.")
    return key


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys of the file `path`. Raises KeyFileError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or "is not UTF-8"
        raise KeyFileError(f"METAPLASTIC_KEYS: {path} cannot be read ({problem}).") from error
    keys = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = LINE.fullmatch(text)
        if not match:
            raise KeyFileError(
                f"METAPLASTIC_KEYS: {path} line {number}: expected `name role sha256`, as "
                "`python -m app.new_key NAME` makes it."
            )
        keys.append(Key(**match.groupdict()))
    if not keys:
        raise KeyFileError(
            f"METAPLASTIC_KEYS: {path} has no key. Make one: python -m app.new_key NAME"
        )
    return tuple(keys)


def hash_of(key: str) -> str:
    """What stands in the file for `key`."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _state(path: Path) -> tuple[int, int, int] | None:
    """Changes when the file does; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
