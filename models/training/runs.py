"""Run folders: the results of a training, and its state while it is not finished."""

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
THEN = "; then "  # separates the backends, or hardware, of a run that was resumed elsewhere
_RUN = "run.json"
_HARDWARE = "machines.json"  # a list of (backend, hardware); the name is that of earlier versions
_LOCK = ".lock"
_CHECKPOINT = "checkpoint-{epoch:04d}.weights.h5"


class RunError(MetaplasticError):
    """A run folder that cannot be used. The message says why and what to do."""


@dataclass(frozen=True)
class Run:
    """One training: the network, the data set, the recipe, and the folder of its files."""

    folder: Path
    dataset: str
    architecture: str
    rule: str
    recipe: Recipe
    command: str  # repeats the training


def start_run(
    root: Path, dataset: str, architecture: str, rule: str, recipe: Recipe, command: str
) -> Run:
    """Create a run folder below `root`, named after settings and time, and return the run.

    Raises RunError if the folder exists already.
    """
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
    """Return the unfinished run in `folder`. Raises RunError if there is none."""
    try:
        content = json.loads((folder / _RUN).read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(
            f"{folder} holds no unfinished training ({_RUN}: {error.strerror}); a finished one "
            "cannot be resumed"
        ) from error
    return Run(**{**content, "folder": folder, "recipe": recipe_from(content["recipe"])})


def read_history(folder: Path) -> list[dict[str, float]]:
    """Return a row of figures for each finished epoch of a run, oldest first."""
    if not (folder / HISTORY).exists():
        return []
    with (folder / HISTORY).open(encoding="utf-8", newline="") as lines:
        return [
            {name: float(value) for name, value in row.items()} for row in csv.DictReader(lines)
        ]


def rounded(value: float) -> float:
    """Round a figure to the nine significant digits that the history keeps, enough for float32."""
    return float(f"{value:.9g}")


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Return the path of the checkpoint after `epoch` epochs: weights, optimizer, generators."""
    return folder / _CHECKPOINT.format(epoch=epoch)


def commit_epoch(folder: Path, history: list[dict[str, float]]) -> None:
    """Record that the last epoch of `history` is done. Its checkpoint must be written before.

    The history is replaced in one step, and only then is the older checkpoint deleted. So the
    checkpoint of the recorded history always exists, even if the process dies.
    """
    header = ",".join(history[0])
    rows = (",".join(f"{value:.9g}" for value in row.values()) for row in history)
    write_whole(folder / HISTORY, "\n".join([header, *rows]) + "\n")
    checkpoint_path(folder, len(history) - 1).unlink(missing_ok=True)


def note_hardware(folder: Path, backend: str, hardware: str) -> None:
    """Add backend and hardware to those that trained a run, unless they are the last ones."""
    known = hardware_of(folder)
    if known[-1:] != [(backend, hardware)]:
        write_whole(folder / _HARDWARE, json.dumps([*known, (backend, hardware)], indent=1) + "\n")


def hardware_of(folder: Path) -> list[tuple[str, str]]:
    """Return (backend, hardware) of a run, several if it was resumed elsewhere."""
    path = folder / _HARDWARE
    if not path.exists():
        return []
    return [(backend, hardware) for backend, hardware in json.loads(path.read_text("utf-8"))]


def trained_on(folder: Path) -> tuple[str, str]:
    """Return the backends and the hardware of a run, each joined by THEN."""
    backends, hardware = zip(*hardware_of(folder), strict=True)
    return THEN.join(dict.fromkeys(backends)), THEN.join(dict.fromkeys(hardware))


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Lock a run for this process. A process that dies releases the lock.

    Raises RunError if another process holds it.
    """
    with (folder / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"{folder} is being trained by another process") from error
        yield


def finish_run(run: Run) -> None:
    """Delete the files that only an unfinished run needs."""
    names = (_RUN, _HARDWARE, _LOCK)
    for path in (*run.folder.glob("*.weights.*"), *(run.folder / name for name in names)):
        path.unlink(missing_ok=True)


def find_runs(root: Path) -> list[Path]:
    """Return the folders at or below `root` that hold an unfinished training."""
    return sorted(path.parent for path in root.rglob(_RUN))
