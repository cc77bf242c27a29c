"""API keys: which callers may use the service, and which may load models and manage votes.

The file of keys has one line for each key, `name role sha256`, made by app/new_key.py. A key has
256 random bits, so a plain SHA-256 cannot be reversed.

The file is read with every request that needs a key. A line that is removed is refused from the
next request on, in all processes.
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
# Paths that need no key: the documentation, the demonstration, and the checks of orchestrators.
_OPEN = frozenset({"/", "/swagger.json", "/demo", "/favicon.ico"})
_OPEN_BELOW = ("/health/", "/v2/health/", "/swaggerui/", "/static/", "/demo/")
KEY_NAME = re.compile(r"[\w.@-]{1,64}")
LINE = re.compile(
    rf"(?P<name>{KEY_NAME.pattern}) +(?P<role>{ADMIN}|{USER}) +(?P<hash>[0-9a-f]{{64}})"
)
_log = logging.getLogger(__name__)


class KeyFileError(StartError):
    """A file of keys that cannot be used. The message names the file, the line and the problem."""


@dataclass(frozen=True)
class Key:
    """One line of the file."""

    name: str
    role: str  # ADMIN or USER
    hash: str  # SHA-256 of the key, hexadecimal


class KeyFile:
    """The current keys of a file. A missing file has no keys, and bad lines are ignored."""

    def __init__(self, path: Path) -> None:
        """Read the file `path`. Raises KeyFileError if it cannot be used."""
        self.path = path
        self._keys = read_keys(path)
        self._content: bytes | None = None  # parsed last
        self._readable = True

    def find(self, given: str) -> Key | None:
        """Return the key that matches `given`, or None.

        Every key is compared in constant time, so that the time of the answer reveals nothing.
        Raises RequestError 503 if the file cannot be read.
        """
        found = None
        digest = hash_of(given)
        for key in self._current():
            if hmac.compare_digest(key.hash, digest):
                found = key
        return found

    def _current(self) -> tuple[Key, ...]:
        content = self._read()
        # Parsed again, and its problems logged again, only if it has changed.
        if content != self._content:
            # In this order: another thread, which sees the content, has its keys.
            self._keys, problems = parse_keys(content, self.path)
            self._content = content
            for problem in problems:
                _log.error("%s The other lines are valid.", problem)
            if not self._keys:
                _log.error("METAPLASTIC_KEYS: %s has no key. All callers are refused.", self.path)
        return self._keys

    def _read(self) -> bytes:
        try:
            content = read_regular(self.path)
        except FileNotFoundError:
            content = b""
        except OSError as error:
            if self._readable:
                self._readable = False
                # Logged once, and not for every request.
                _log.error("METAPLASTIC_KEYS: %s cannot be read (%s).", self.path, error.strerror)
            raise keys_unreadable() from error
        self._readable = True
        return content


def require_keys(app: Flask, path: Path) -> None:
    """Refuse requests to `app` without a key of the file `path`, except to open paths.

    Raises KeyFileError.
    """
    keys = app.extensions["keys"] = KeyFile(path)

    def check() -> None:
        check_key(keys, request)

    app.before_request(check)


def require_admin() -> None:
    """Raise RequestError 401 or 403 unless the request has the key of an admin."""
    if "keys" not in current_app.extensions:
        message = "This needs an admin's key, and METAPLASTIC_KEYS names no file of keys."
        raise RequestError(403, "admin_key_needed", message)
    key = _shown(current_app.extensions["keys"], request)
    if key.role != ADMIN:
        message = f"This needs an admin's key; the key {key.name} has the role {key.role}."
        raise RequestError(403, "admin_key_needed", message)


def is_admin(keys: KeyFile | None, request: Request) -> bool:
    """Return whether the request has an admin's of these `keys`. Raises RequestError 401."""
    return keys is not None and _shown(keys, request).role == ADMIN


def is_open(path: str, method: str) -> bool:
    """Return whether `path` can be requested without a key."""
    return method == "OPTIONS" or path in _OPEN or path.startswith(_OPEN_BELOW)


def check_key(keys: KeyFile, request: Request) -> None:
    """Raise RequestError 401 unless `request` has one of `keys`, or its path needs none."""
    if not is_open(request.path, request.method):
        key = _shown(keys, request)
        if record := current_record():
            record.caller = key.name


def _shown(keys: KeyFile, request: Request) -> Key:
    """Return the key that the request has. Raises RequestError 401."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    given = request.headers.get(HEADER) or (token.strip() if kind.lower() == "bearer" else "")
    if not given:
        raise missing_key()
    key = keys.find(given)
    if key is None:
        raise RequestError(401, "unknown_key", "This key is unknown, or it was revoked.")
    return key


def missing_key() -> RequestError:
    """Return the refusal of a request that has no key."""
    message = f"A key is needed: send it as {HEADER}, or as Authorization: Bearer."
    return RequestError(401, "missing_key", message)


def keys_unreadable() -> RequestError:
    """Return the error of every request while the file of keys cannot be read."""
    message = "The keys cannot be read now; the log says why. Try again."
    return RequestError(503, "keys_unreadable", message)


def read_keys(path: Path) -> tuple[Key, ...]:
    """Return the keys of the file `path`. Raises KeyFileError if it has none, or a bad line."""
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
    """Return the keys in `content` of the file `path`, and a message for each bad line.

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
    """Return the hash of `key` that the file holds: SHA-256 in hexadecimal."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
