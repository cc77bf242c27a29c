"""Carry out the trials of a study, shared by processes that may stop at any moment."""

import fcntl
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from models.training.on_ray import Trainings
from studies.plan import Done
from studies.results import Tables, Trial, TrialResult, read_done, record

# Returns all trials that are known so far. Some depend on the results of earlier ones.
Plan = Callable[[Done], Sequence[Trial]]
# Trains in a folder that may hold the state of an interrupted process.
CarryOut = Callable[[Trial, Path], TrialResult]


def work_through(plan: Plan, carry_out: CarryOut, tables: Tables, folder: Path) -> None:
    """Carry out every planned trial that has no row in `tables`.

    Each trial is claimed by a lock file below `folder`. A process holds the lock until it has
    written the row or it dies. So several processes with the same arguments share the work, and the
    next process continues from what an interrupted one left in `folder`.
    """
    while pending := pending_trials(plan, tables):
        work_on(pending, carry_out, tables, folder)


def work_through_on(
    trainings: Trainings, plan: Plan, carry_out: CarryOut, tables: Tables, folder: Path
) -> None:
    """Do the same as tasks of a cluster, one for each trial. `tables` and `folder` are shared.

    Processes on other machines with the same arguments still share the work.
    """
    tables = Tables(tables.folder.absolute(), tables.study)
    while pending := pending_trials(plan, tables):
        new = [trial for trial in pending if trial not in trainings.flying]
        for trial in new[: max(0, trainings.slots() - len(trainings.flying))]:
            trainings.start(trial, work_on, [trial], carry_out, tables, folder.absolute())
        trial, _ = trainings.first_ended()
        print(f"{len(pending) - 1} or more to do after {trial.name}", file=sys.stderr, flush=True)


def work_on(pending: Sequence[Trial], carry_out: CarryOut, tables: Tables, folder: Path) -> None:
    """Carry out the first of `pending` that no other process works on, and write its row."""
    with _claimed(pending, folder) as trial:
        if trial in read_done(tables):  # another process finished it in the meantime
            return
        print(f"{len(pending)} or more to do: {trial.name}", file=sys.stderr, flush=True)
        place = folder / trial.name
        place.mkdir(parents=True, exist_ok=True)
        result = carry_out(trial, place)
        record(tables, trial, result, folder / "results.lock")
        shutil.rmtree(place)


def pending_trials(plan: Plan, tables: Tables) -> list[Trial]:
    """Return the trials that are known so far and have no row in `tables`."""
    done = read_done(tables)
    return [trial for trial in plan(done) if trial not in done]


@contextmanager
def _claimed(pending: Sequence[Trial], folder: Path) -> Iterator[Trial]:
    """Yield the first trial that no other process works on.

    If all are taken, wait for the first one to become free.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for trial, flags in [(trial, fcntl.LOCK_NB) for trial in pending] + [(pending[0], 0)]:
        path = folder / f"{trial.name}.lock"
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | flags)
            except BlockingIOError:
                continue
            yield trial
            # A process that has opened the file by now gets the lock next and then finds the row.
            path.unlink(missing_ok=True)
            return
