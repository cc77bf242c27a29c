"""The work of a study: one trial at a time, by any number of processes, stopped at any moment."""

import fcntl
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from studies.plan import Group, plan
from studies.results import Outcome, Tables, Trial, read_done, record

# Trains in a folder, which has what an interrupted process left in it.
CarryOut = Callable[[Trial, Path], Outcome]


def work_through(
    groups: Sequence[Group], carry_out: CarryOut, tables: Tables, folder: Path
) -> None:
    """Carry out every trial of `groups` that `tables` has no row of.

    Each trial is claimed by a lock below `folder`, which a process holds until the row is written
    or it dies: processes that are given the same work share it. What an interrupted trial left in
    `folder` is where the next process goes on.
    """
    while pending := pending_trials(groups, tables):
        with _claimed(pending, folder) as trial:
            if trial in read_done(tables):  # meanwhile, by another process
                continue
            print(f"{len(pending)} or more to do: {trial.name}", file=sys.stderr, flush=True)
            place = folder / trial.name
            place.mkdir(parents=True, exist_ok=True)
            outcome = carry_out(trial, place)
            record(tables, trial, outcome, folder / "results.lock")
            shutil.rmtree(place)


def pending_trials(groups: Sequence[Group], tables: Tables) -> list[Trial]:
    """Those that are known yet and that `tables` has no row of."""
    done = read_done(tables)
    return [trial for trial in plan(groups, done) if trial not in done]


@contextmanager
def _claimed(pending: Sequence[Trial], folder: Path) -> Iterator[Trial]:
    """The first trial that no other process is at; if there is none, the first once it is free."""
    folder.mkdir(parents=True, exist_ok=True)
    for trial, patience in [(trial, fcntl.LOCK_NB) for trial in pending] + [(pending[0], 0)]:
        path = folder / f"{trial.name}.lock"
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | patience)
            except BlockingIOError:
                continue
            yield trial
            # Whoever has opened the file by now finds the row once it gets the lock.
            path.unlink(missing_ok=True)
            return
