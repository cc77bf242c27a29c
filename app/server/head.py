"""The head of a request that is answered directly: what form it must have, and what it says."""

import re
from functools import lru_cache

# Printable ASCII with one space after a colon. gunicorn decides about other requests.
HEAD = re.compile(
    rb"POST (/[\w./-]*)(?:\?([!$-;=?-Z_a-z~]*))? HTTP/1\.1\r\n"
    rb"((?:[A-Za-z0-9-]+: [!-~][ -~]*\r\n)+)\r\n"
)
# Longer heads and more headers are left to gunicorn, which refuses some of them.
MOST_HEAD, _MOST_HEADERS = 4096, 64
# Flask refuses an empty label and one of more than 63 characters, and takes a final dot.
_LABEL = "[A-Za-z0-9-]{1,63}"
HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?(?::[0-9]+)?")
# Headers whose meaning the direct path does not know.
_FOREIGN = frozenset(
    f"HTTP_{name}"
    for name in (
        *("CONTENT_ENCODING", "EXPECT", "TRANSFER_ENCODING", "UPGRADE", "TE", "TRAILER"),
        *("X_FORWARDED_PREFIX", "X_HTTP_METHOD_OVERRIDE"),
    )
)


def environ_of(lines: str, length: int) -> dict[str, str] | None:
    """Return headers under the names of WSGI, or None for an unusual request.

    `length` is the length of the body.
    """
    headers = lines.split("\r\n")[:-1]
    if len(headers) > _MOST_HEADERS:
        return None
    environ = {}
    for line in headers:
        name, _, value = line.partition(": ")
        environ[_wsgi_name(name)] = value.strip()
    if len(environ) < len(headers) or not _FOREIGN.isdisjoint(environ):
        return None
    if environ.get("HTTP_CONNECTION", "close").lower() not in ("close", "keep-alive"):
        return None
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if f"HTTP_{name}" in environ:
            environ[name] = environ.pop(f"HTTP_{name}")
    said = environ.get("CONTENT_LENGTH", "0")
    return environ if said.isdigit() and int(said) == length else None


@lru_cache(maxsize=1024)
def _wsgi_name(header: str) -> str:
    return f"HTTP_{header.upper().replace('-', '_')}"
