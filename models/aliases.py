"""The aliases of a model's versions: which one is the champion, and which one the challenger.

They are in one small file beside the versions, `weights/<data set>/<architecture>/<rule>/
aliases.json`. The champion answers requests; without the file the newest published version does.
The challenger is a candidate for its place. `former` is the champion before the last promotion.
"""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from models.cards import MOST_VERSION, CardError, read_card
from models.errors import MetaplasticError
from models.files import read_regular, write_whole

ALIASES = "aliases.json"
_LOCK = ".aliases.lock"


class AliasError(MetaplasticError):
    """Aliases that cannot be read, written or changed as wanted."""


class VersionError(AliasError):
    """A version that cannot become the champion."""


@dataclass(frozen=True)
class Aliases:
    """The versions that have a name. None: no version has it."""

    champion: int | None = None
    challenger: int | None = None
    former: int | None = None  # the champion before this one, to which a rollback returns


def read_aliases(folder: Path) -> Aliases:
    """Return the aliases in `folder`, which holds a model's versions; none without the file.

    Raises AliasError if the file cannot be read or is not such a file.
    """
    path = folder / ALIASES
    try:
        content = json.loads(read_regular(path).decode("utf-8"))
    except FileNotFoundError:
        return Aliases()
    except OSError as error:
        raise AliasError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise AliasError(f"{path}: is not JSON in UTF-8 ({error})") from error
    if not isinstance(content, dict):
        raise AliasError(f"{path}: expected an object, such as {{'champion': 4}}")
    known = {name: content.get(name) for name in asdict(Aliases())}
    for name, version in known.items():
        # A bool is an int in Python.
        whole = type(version) is int and 0 <= version <= MOST_VERSION
        if version is not None and not whole:
            raise AliasError(f"{path}: {name}: expected a version or null, found {version!r}")
    return Aliases(**known)


def set_aliases(folder: Path, **versions: int | None) -> Aliases:
    """Set some aliases of the model in `folder`, and return all of them.

    `versions` are `champion`, `challenger` and `former`; None removes an alias. Aliases that are
    not given stay. Raises AliasError if the file cannot be written, and as `read_aliases` does;
    then nothing has changed.
    """
    with _locked(folder):
        return _write(folder, replace(read_aliases(folder), **versions))


def promote(
    folder: Path, challenger: int | None = None, *, answering: int | None = None
) -> Aliases:
    """Make the challenger the champion, and return the new aliases.

    With a `challenger`, only that version is promoted. A rollback returns to the present champion,
    or to the version `answering` in its place if none is named or its version is gone. Raises
    AliasError if there is no challenger or another one, VersionError if it is gone or has other
    labels than the champion, and as `read_aliases` and `set_aliases` do.
    """
    with _locked(folder):
        before = read_aliases(folder)
        if before.challenger is None:
            raise AliasError(f"{folder}: there is no challenger to promote")
        if challenger not in (None, before.challenger):
            raise AliasError(
                f"{folder}: version {challenger} is not the challenger any more; "
                f"version {before.challenger} is"
            )
        former = before.champion if has_version(folder, before.champion) else answering
        labels = _labels(folder, before.challenger)
        if former is not None and labels != _labels(folder, former):
            raise VersionError(
                f"{folder}: version {before.challenger} has other labels than version {former}, so "
                f"the same answers would mean something else. Name it as the champion in {ALIASES} "
                "if that is intended"
            )
        return _write(folder, Aliases(champion=before.challenger, former=former))


def roll_back(folder: Path, champion: int | None = None) -> Aliases:
    """Make the former champion the champion again, and return the new aliases.

    With a `champion`, only that one is replaced. A challenger stays. Raises AliasError if there is
    no former champion or another champion, VersionError if the former one is gone, and as
    `read_aliases` and `set_aliases` do.
    """
    with _locked(folder):
        before = read_aliases(folder)
        if before.former is None:
            raise AliasError(f"{folder}: there is no former champion to return to")
        if champion not in (None, before.champion):
            raise AliasError(
                f"{folder}: version {champion} is not the champion any more; "
                f"version {before.champion} is"
            )
        _labels(folder, before.former)
        return _write(folder, replace(before, champion=before.former, former=None))


def has_version(folder: Path, version: int | None) -> bool:
    """Return whether `folder` holds this version."""
    return version is not None and (folder / str(version)).is_dir()


def _labels(folder: Path, version: int) -> tuple[str, ...]:
    """Return the labels of a version. Raises VersionError if it is gone or its card is broken."""
    if not has_version(folder, version):
        raise VersionError(f"{folder}: version {version} is gone: there is no folder {version}")
    try:
        return read_card(folder / str(version)).labels
    except CardError as error:
        raise VersionError(f"{folder}: version {version} cannot be used: {error}") from error


def remove_aliases(folder: Path) -> None:
    """Remove the aliases of the model in `folder`, so that its newest published version answers.

    Raises AliasError if that is impossible.
    """
    with _locked(folder):
        try:
            (folder / ALIASES).unlink(missing_ok=True)
        except OSError as error:
            raise AliasError(f"{folder / ALIASES}: cannot be removed ({error.strerror})") from error


def _write(folder: Path, aliases: Aliases) -> Aliases:
    path = folder / ALIASES
    try:
        write_whole(path, json.dumps(asdict(aliases)) + "\n")
    except OSError as error:
        raise AliasError(f"{path}: cannot be written ({error.strerror})") from error
    return aliases


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of the aliases, so that the service and the learner change them in turn.

    The system releases the lock of a process that ends. Raises AliasError.
    """
    try:
        file = (folder / _LOCK).open("w")
    except OSError as error:
        raise AliasError(
            f"{folder}: its aliases cannot be changed ({error.strerror}). Make the folder writable."
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
