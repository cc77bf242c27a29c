"""Run folders: what a training leaves behind, and what it needs to go on after an interruption."""

import csv
import dataclasses
import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from models.errors import MetaplasticError
from models.files import write_whole
from models.training.recipes import Recipe, recipe_from

HISTORY = "history.csv"
BEST = "best.weights.h5"
THEN = "; then "
_RUN = "run.json"
_MACHINES = "machines.json"
_LOCK = ".lock"
_CHECKPOINT = "checkpoint-{epoch:04d}.weights.h5"


class RunError(MetaplasticError):
    """A run folder that cannot be used: says why and what to do."""


@dataclass(frozen=True)
class Run:
    """One training: what is trained, how, and the folder that it fills."""

    folder: Path
    dataset: str
    architecture: str
    rule: str
    recipe: Recipe
    command: str  # trains it again


def start_run(
    root: Path, dataset: str, architecture: str, rule: str, recipe: Recipe, command: str
) -> Run:
    """A new folder below `root`, named after the parameters and the time."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    preset = f"-{recipe.preset}" if recipe.preset else ""
    name = (
        f"{dataset}-{architecture}-{rule}{preset}-e{recipe.epochs}-b{recipe.batch_size}"
        f"-v{recipe.validation:g}-s{recipe.seed}-{stamp}"
    )
    folder = root / name
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise RunError(f"{folder} exists already; start again in a second") from error
    run = Run(folder, dataset, architecture, rule, recipe, command)
    content = {**dataclasses.asdict(run), "folder": None}
    write_whole(folder / _RUN, json.dumps(content, indent=1) + "\n")
    return run


def open_run(folder: Path) -> Run:
    """The unfinished run in `folder`. Raises RunError where there is none."""
    try:
        content = json.loads((folder / _RUN).read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(
            f"{folder} holds no unfinished training ({_RUN}: {error.strerror}); a finished one has "
            "nothing to resume"
        ) from error
    return Run(**{**content, "folder": folder, "recipe": recipe_from(content["recipe"])})


def read_history(folder: Path) -> list[dict[str, float]]:
    """The finished epochs of a run, a row each, oldest first."""
    if not (folder / HISTORY).exists():
        return []
    with (folder / HISTORY).open(encoding="utf-8", newline="") as lines:
        return [
            {name: float(value) for name, value in row.items()} for row in csv.DictReader(lines)
        ]


def rounded(value: float) -> float:
    """A figure of an epoch with the digits that the history keeps: nine, as float32 has."""
    return float(f"{value:.9g}")


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Where the state after `epoch` epochs is kept: weights, optimizer, random generators."""
    return folder / _CHECKPOINT.format(epoch=epoch)


def commit_epoch(folder: Path, history: list[dict[str, float]]) -> None:
    """Record that the last epoch of `history` is done and its checkpoint written.

    The history is replaced as a whole, and only then is the older checkpoint dropped: whenever the
    process dies, the folder's history has its checkpoint beside it.
    """
    header = ",".join(history[0])
    rows = (",".join(f"{value:.9g}" for value in row.values()) for row in history)
    write_whole(folder / HISTORY, "\n".join([header, *rows]) + "\n")
    checkpoint_path(folder, len(history) - 1).unlink(missing_ok=True)


def note_hardware(folder: Path, backend: str, hardware: str) -> None:
    """Add to what a run was trained on, unless that was the last thing that was noted."""
    known = hardware_of(folder)
    if known[-1:] != [(backend, hardware)]:
        write_whole(folder / _MACHINES, json.dumps([*known, (backend, hardware)], indent=1) + "\n")


def hardware_of(folder: Path) -> list[tuple[str, str]]:
    """What a run was trained on, in turn: (backend, hardware)."""
    path = folder / _MACHINES
    if not path.exists():
        return []
    return [(backend, hardware) for backend, hardware in json.loads(path.read_text("utf-8"))]


def trained_on(folder: Path) -> tuple[str, str]:
    """Backend and hardware of a run in words; of one that had several, all, with THEN between."""
    backends, hardware = zip(*hardware_of(folder), strict=True)
    return THEN.join(dict.fromkeys(backends)), THEN.join(dict.fromkeys(hardware))


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Have a run for oneself; a process that dies lets go of it. Raises RunError."""
    with (folder / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"{folder} is being trained by another process") from error
        yield


def finish_run(run: Run) -> None:
    """Drop what only an unfinished run needs."""
    names = (_RUN, _MACHINES, _LOCK)
    for path in (*run.folder.glob("*.weights.*"), *(run.folder / name for name in names)):
        path.unlink(missing_ok=True)


def find_runs(root: Path) -> list[Path]:
    """The folders at or below `root` that hold an unfinished training."""
    return sorted(path.parent for path in root.rglob(_RUN))
