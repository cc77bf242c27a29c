"""Make an API key and print it once.

    python -m app.new_key NAME [--admin] [--file FILE]

The key's line for the file of keys is appended to FILE, or printed to stderr.
"""

import os
import secrets
import sys
from pathlib import Path

from app.web.keys import ADMIN, LINE, USER, hash_of
from models.terminal import ArgumentParser


def main() -> None:
    """Run the command."""
    parser = ArgumentParser(prog="python -m app.new_key", description="Make an API key.")
    parser.add_argument("name", help="the owner of the key, for logs and rate limits")
    parser.add_argument(
        "--admin", action="store_true", help="let the key load and unload models, and manage votes"
    )
    parser.add_argument("--file", type=Path, help="the file of keys to append the key's line to")
    given = parser.parse_args()
    key = secrets.token_urlsafe(32)  # 32 bytes, 256 random bits
    line = f"{given.name} {ADMIN if given.admin else USER} {hash_of(key)}"
    if not LINE.fullmatch(line):
        parser.error("a name has 1 to 64 letters, digits, and . _ @ -")
    if given.file:
        try:
            _append(line, given.file)
        except OSError as error:
            parser.error(f"{given.file}: {error.strerror}")
    else:
        print(line, file=sys.stderr)
    print(key)


def _append(line: str, path: Path) -> None:
    """Append `line` to the file `path`, also if its last line has no line feed. Raises OSError."""
    # Only the owner may read the file, and each write goes to its end.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = "\n" + line
        file.write(f"{line}\n".encode())


if __name__ == "__main__":
    main()
