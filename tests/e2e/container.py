"""Carries out the Dockerfile without Docker: its steps in a folder, its CMD as a process.

It knows what our Dockerfile uses and refuses anything else, so that no step is left out unseen.
The image's folders lie below one folder of this machine, and their names are replaced in commands
and variables. The base image is a copy of this Python's own installation, without bytecode, as the
official image has it.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

BASE_IMAGE = r"python:3\.\d+-slim"
FOLDERS = "app|build|opt|usr/local"  # what the Dockerfile may name by an absolute path
PIP_CACHE = "--mount=type=cache,target=/root/.cache/pip"  # a folder of packages stands in for it
BUILD_SECONDS = 600.0
ANSWER_SECONDS = 60.0


class UnsupportedError(Exception):
    """The Dockerfile uses something that is not carried out here."""


@dataclass
class Image:
    """What a Dockerfile makes: files below `root`, and how to start them."""

    root: Path
    variables: dict[str, str]
    workdir: str = "/"
    user: tuple[int, int] = (0, 0)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    port: int = 0
    stop_signal: str = ""

    def path(self, name: str) -> Path:
        """Where a path of the image, absolute or from its working folder, lies on this machine."""
        absolute = os.path.normpath(Path("/", self.workdir, name))
        return self.root / absolute.lstrip("/")

    def freeze(self) -> None:
        """Make the files what `docker run --read-only` makes them, to anybody but root."""
        for path in [self.root, *self.root.rglob("*")]:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & ~0o222)

    def start(self, command: list[str], **variables: object) -> "subprocess.Popen[str]":
        """A process in the image: as its user, if we may, and with none of our variables."""
        as_user = {}
        if os.geteuid() == 0:
            as_user = {"user": self.user[0], "group": self.user[1], "extra_groups": []}
        given = {name: str(value) for name, value in variables.items()}
        return subprocess.Popen(
            command,
            cwd=self.path("."),
            env={"HOME": "/", **self.variables, **given},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **as_user,
        )

    def run(self, command: list[str], **variables: object) -> tuple[int, str]:
        """The exit status and the output of a process in the image, as of `docker exec`."""
        with self.start(command, **variables) as process:
            output, _ = process.communicate(timeout=ANSWER_SECONDS)
        return process.returncode, output


def build(source: Path, folder: Path, packages: Path) -> Image:
    """Carry out `source`'s Dockerfile below `folder`; pip installs from the files in `packages`.

    Raises UnsupportedError.
    """
    steps = _Steps(source, folder, packages)
    for instruction, text in instructions((source / "Dockerfile").read_text()):
        steps.do(instruction, text)
    return steps.image


def instructions(dockerfile: str) -> Iterator[tuple[str, str]]:
    """Each instruction and what follows it, on one line, without the comments."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\[ \t]*\n", "", "\n".join(lines)).splitlines():
        if line.strip():
            instruction, _, text = line.strip().partition(" ")
            yield instruction, text.strip()


def build_context(source: Path) -> list[str]:
    """The files below `source` that .dockerignore lets through."""
    ignored = ignore_rules((source / ".dockerignore").read_text())
    names = [
        Path(folder, name).relative_to(source).as_posix()
        for folder, _, files in os.walk(source)
        for name in files
    ]
    return sorted(name for name in names if not ignored(name))


def ignore_rules(dockerignore: str) -> Callable[[str], bool]:
    """Whether a path is left out: the last rule that matches it, or a folder above it, decides."""
    rules = []
    for line in map(str.strip, dockerignore.splitlines()):
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").strip("/")
            if re.search(r"[\[\]\\]", pattern):
                raise UnsupportedError(f".dockerignore: {line}")
            rules.append((re.compile(_expression(pattern) + "(/.*)?"), not line.startswith("!")))

    def ignored(path: str) -> bool:
        verdicts = [verdict for rule, verdict in rules if rule.fullmatch(path)]
        return bool(verdicts) and verdicts[-1]

    return ignored


def _expression(pattern: str) -> str:
    """The regular expression of a rule: ** is any number of folders, * and ? end at a slash."""
    meaning = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return "".join(meaning.get(part, re.escape(part)) for part in parts)


class _Steps:
    """The instructions of a Dockerfile, a method each."""

    def __init__(self, source: Path, folder: Path, packages: Path) -> None:
        self.source, self.folder, self.root = source, folder, folder / "root"
        self.pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(packages)}
        self.context = build_context(source)
        self.stages: dict[str, Path] = {}
        self.stage = ""
        self.image = Image(self.root, {})

    def do(self, instruction: str, text: str) -> None:
        method = getattr(self, f"_{instruction.lower()}", None)
        if method is None:
            raise UnsupportedError(f"{instruction} {text}")
        method(text)

    def _from(self, text: str) -> None:
        match = re.fullmatch(rf"{BASE_IMAGE}(?: AS (\w+))?", text)
        if not match:
            raise UnsupportedError(f"FROM {text}")
        if self.root.exists():  # every stage has the same paths, as in Docker
            self.stages[self.stage] = self.root.rename(self.folder / f"stage-{len(self.stages)}")
        self.stage = match[1] or ""
        self.image = Image(self.root, _install_python(self.root))

    def _label(self, text: str) -> None:
        self.image.labels.update(_pairs(text))

    def _env(self, text: str) -> None:
        known = self.image.variables
        new = {name: self._translate(value) for name, value in _pairs(text).items()}
        for name, value in new.items():  # from what was known before this instruction
            new[name] = re.sub(r"\$\{?(\w+)\}?", lambda match: known[match[1]], value)
        known.update(new)

    def _workdir(self, text: str) -> None:
        self.image.workdir = self._absolute(text)
        self.image.path(".").mkdir(parents=True, exist_ok=True)

    def _copy(self, text: str) -> None:
        flags, words = {}, shlex.split(text)
        while words[0].startswith(("--from=", "--chmod=")):
            flag, value = words.pop(0).split("=", 1)
            flags[flag] = value
        *sources, destination = words
        if any(word.startswith(("-", "[", "<")) or "*" in word for word in sources):
            raise UnsupportedError(f"COPY {text}")
        target = self.image.path(destination)
        for source in sources:
            if stage := flags.get("--from"):
                origin = self.stages[stage] / self._absolute(source).lstrip("/")
                shutil.copytree(origin, target, symlinks=True, dirs_exist_ok=True)
            else:
                into = destination[-1] == "/" and (self.source / source).is_file()
                self._copy_context(source, target / Path(source).name if into else target)
        if mode := flags.get("--chmod"):
            for path in [target, *target.rglob("*")]:
                path.chmod(int(mode, 8))

    def _copy_context(self, source: str, target: Path) -> None:
        """A file, or what a folder holds; neither can be had if .dockerignore leaves it out."""
        below = os.path.normpath(source)
        names = [name for name in self.context if name == below or name.startswith(f"{below}/")]
        if not names:
            raise FileNotFoundError(f"COPY: {source} is not in the build's context")
        for name in names:
            copy = target / Path(name).relative_to(below)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.source / name, copy)

    def _run(self, text: str) -> None:
        words = text.removeprefix(PIP_CACHE).strip()
        if words.startswith(("-", "[", "<")):
            raise UnsupportedError(f"RUN {text}")
        result = subprocess.run(
            ["/bin/sh", "-c", self._translate(words)],
            cwd=self.image.path("."),
            env={"HOME": str(self.folder), **self.pip, **self.image.variables},
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
        if result.returncode:
            raise RuntimeError(f"RUN {text}\n{result.stdout}{result.stderr}")

    def _user(self, text: str) -> None:
        if not re.fullmatch(r"\d+:\d+", text):
            raise UnsupportedError(f"USER {text}")
        user, group = map(int, text.split(":"))
        self.image.user = user, group

    def _expose(self, text: str) -> None:
        self.image.port = int(text)

    def _stopsignal(self, text: str) -> None:
        self.image.stop_signal = text

    def _healthcheck(self, text: str) -> None:
        match = re.fullmatch(r"(?:--(?:interval|timeout|start-period|retries)=\w+ )*CMD (.*)", text)
        if not match:
            raise UnsupportedError(f"HEALTHCHECK {text}")
        self.image.healthcheck = self._exec_form(match[1])

    def _cmd(self, text: str) -> None:
        self.image.command = self._exec_form(text)

    def _exec_form(self, text: str) -> list[str]:
        if not text.startswith("["):
            raise UnsupportedError(f"not in exec form: {text}")
        return [self._translate(word) for word in json.loads(text)]

    def _absolute(self, path: str) -> str:
        if not re.fullmatch(rf"/({FOLDERS})(/.*)?", path):
            raise UnsupportedError(f"the path {path}")
        return path

    def _translate(self, text: str) -> str:
        """`text` with the image's absolute paths as those of this machine."""

        def here(match: "re.Match[str]") -> str:
            return f"{self.root}{self._absolute(match[0])}"

        # A path begins where no word, URL or other path goes on.
        return re.sub(r"(?<![\w./}$-])(?<!:/)/\w[\w./-]*", here, text)


def _install_python(root: Path) -> dict[str, str]:
    """The base image's /usr/local: Python and pip. Returns the base image's variables."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    prefix = root / "usr" / "local"
    library = prefix / "lib" / version
    unneeded = ("__pycache__", "site-packages", "dist-packages", "test", "tests", "config-*")
    shutil.copytree(sysconfig.get_path("stdlib"), library, ignore=shutil.ignore_patterns(*unneeded))
    pip = find_spec("pip")
    assert pip is not None
    assert pip.origin is not None
    shutil.copytree(
        Path(pip.origin).parent,
        library / "site-packages" / "pip",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (prefix / "bin").mkdir()
    shutil.copy2(Path(sys.executable).resolve(), prefix / "bin" / version)
    for name in ("python3", "python"):
        (prefix / "bin" / name).symlink_to(version)
    for shared in Path(sys.base_prefix, "lib").glob(f"lib{version}.so*"):
        shutil.copy2(shared, prefix / "lib", follow_symlinks=False)
    return {
        "PATH": f"{prefix / 'bin'}:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "LD_LIBRARY_PATH": str(prefix / "lib"),  # ahead of the place that this Python is from
    }


def _pairs(text: str) -> dict[str, str]:
    """NAME=VALUE ..., quoted as in a shell."""
    pairs = [word.split("=", 1) for word in shlex.split(text)]
    if any(len(pair) != 2 for pair in pairs):
        raise UnsupportedError(f"not NAME=VALUE: {text}")
    return dict(pairs)
