"""Words that others chose, such as names of files, on a terminal: shown, and not obeyed."""

import argparse
import re
import sys
from typing import IO, NoReturn

# Control characters but the tab and the line feed, what turns the direction of writing, other ends
# of lines, and bytes of a file's name that are no text.
_COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Return `text` with an escape (backslash, x1b) for each character that commands a terminal."""
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Return `text` as `printable` does, with an escape for each end of a line as well."""
    return printable(text).replace("\n", "\\n")


def say(text: object, stream: IO[str] | None = None) -> None:
    """Print a line, or several, that may hold words of others; on stdout, or on `stream`."""
    print(printable(str(text)), file=stream or sys.stdout, flush=True)


class ArgumentParser(argparse.ArgumentParser):
    """One whose complaints repeat the words that were given, and are safe on a terminal."""

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        super().exit(status, printable(message) if message else None)
