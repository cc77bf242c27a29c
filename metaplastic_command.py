"""The command `metaplastic`: the service and the training, in the folder of this project.

`pip install .` installs it with the learning rules. It runs what lies in the current folder, or in
the one that `pip install -e .` was called in: no other part of the project is in the package.
"""

import os
import sys
from pathlib import Path

USAGE = """usage: metaplastic COMMAND [ARGUMENTS]

  serve       the web service                              python wsgi.py
  classify    many pictures without a server               python -m app.classify
  train, import, data, publish, evaluate, list, ...        python -m models

`serve` is set by variables (docs/settings.md); `metaplastic COMMAND --help` tells the arguments of
all others."""

_PROGRAMS = {"serve": ("wsgi.py",), "classify": ("-m", "app.classify")}
_OF_THE_PROJECT = ("wsgi.py", "app/classify.py", "models/__main__.py", "models/plasticity")


def main() -> None:
    """Replace this process by the program of the command. Exits with status 2 without one."""
    word, *arguments = sys.argv[1:] or [""]
    if word in ("", "-h", "--help"):
        print(USAGE, file=sys.stdout if word else sys.stderr)
        sys.exit(0 if word else 2)
    root = _root()
    if root is None:
        sys.exit(
            f"metaplastic {word}: expected this project in {Path.cwd()}. The package has the "
            "learning rules alone: clone the repository, install its requirements.txt, and run "
            "the command in its folder."
        )
    if word == "serve" and arguments:
        print(
            f"metaplastic serve takes no arguments, found {arguments[0]!r}; its settings are the "
            "variables METAPLASTIC_* of docs/settings.md",
            file=sys.stderr,
        )
        sys.exit(2)
    program, *more = _PROGRAMS.get(word, ("-m", "models", word))
    paths = filter(None, (str(root), os.environ.get("PYTHONPATH")))
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    if program == "wsgi.py":
        program = str(root / program)
    # The files of this project, and not a package of the same name that is installed.
    os.execv(sys.executable, [sys.executable, program, *more, *arguments])  # noqa: S606


def _root() -> Path | None:
    """Return the folder of this project, or None."""
    for folder in (Path.cwd(), Path(__file__).resolve().parent):
        if all((folder / part).exists() for part in _OF_THE_PROJECT):
            return folder
    return None
