"""Print text from others, such as file names, without letting it control the terminal."""

import argparse
import re
import sys
from typing import IO, NoReturn

# Control characters except tab and line feed, characters that change the direction of writing,
# other line separators, and bytes of a file name that are not text.
_COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Return `text` with an escape for each character that controls a terminal."""
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Return `text` as `printable` does, with line feeds escaped as well."""
    return printable(text).replace("\n", "\\n")


def say(text: object, stream: IO[str] | None = None) -> None:
    """Print text that may contain words of others to stdout or to `stream`."""
    print(printable(str(text)), file=stream or sys.stdout, flush=True)


class ArgumentParser(argparse.ArgumentParser):
    """An argument parser whose error messages are safe on a terminal."""

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        super().exit(status, printable(message) if message else None)
