"""Work through the chunks of a job, whoever carries them out and whatever dies meanwhile."""

import time
from collections import deque
from collections.abc import Iterator

from app.bulk.answers import Done
from app.bulk.job import Chunk, Job
from app.bulk.parts import part_numbers, part_path, write_part
from app.bulk.progress import Progress
from app.bulk.runner import Died, Lost, Runner
from app.bulk.tables import Row, name_in_tables
from app.settings import StartError

DEATHS = 3  # processes that may die on a chunk before it is halved
_LOOK = 1.0  # seconds between two looks at the clock
_SIGHT = 60.0  # seconds after which another machine's file must be visible here


def work_through(job: Job, runner: Runner, progress: Progress, patience: float) -> None:
    """Have the part of every chunk of `job` written that has none.

    A chunk on which DEATHS processes died is halved. If it has one picture, that picture gets an
    error row. Raises StartError if no chunk is finished for `patience` seconds.
    """
    again = deque[Chunk]()
    new = _unfinished(job)
    flying: dict[int, Chunk] = {}
    finished_at = time.monotonic()
    while True:
        slots = runner.slots()
        while len(flying) < slots and (chunk := again.popleft() if again else next(new, None)):
            runner.submit(chunk)
            flying[chunk.number] = chunk
        if not flying and slots:
            return
        for ended in runner.ended(_LOOK):
            chunk = flying.pop(ended.number)
            match ended:
                case Done():
                    finished_at = time.monotonic()
                    progress.add(len(chunk.pictures))
                    _wait_for_part(job, chunk)
                case Died(_, reason):
                    again.extend(_after_a_death(job, chunk, reason, progress))
                case Lost():
                    again.append(chunk)
        progress.show(runner.description())
        if time.monotonic() - finished_at > patience:
            raise StartError(
                f"No chunk was finished for {patience:g} s, with {runner.description()} at work: "
                "stopped. What is finished is kept; the same command continues."
            )


def _unfinished(job: Job) -> Iterator[Chunk]:
    """Yield the chunks that have no part, read one by one."""
    finished = part_numbers(job.folder)
    for number in job.numbers():
        if number not in finished:
            yield job.chunk(number)


def _after_a_death(job: Job, chunk: Chunk, reason: str, progress: Progress) -> list[Chunk]:
    """Return what is to be tried after a process died on `chunk`."""
    chunk = job.note_death(chunk)
    if chunk.deaths < DEATHS:
        return [chunk]
    if len(chunk.pictures) > 1:
        return job.halve(chunk)
    message = f"{DEATHS} processes died on it ({reason})."
    names = (name_in_tables(picture.name) for picture in chunk.pictures)
    write_part(job.folder, chunk.number, [Row(name, error=message) for name in names])
    progress.add(len(chunk.pictures))
    return []


def _wait_for_part(job: Job, chunk: Chunk) -> None:
    """Wait until a part is visible. Raises StartError if it is not, as in a folder of others."""
    path = part_path(job.folder, chunk.number)
    ends = time.monotonic() + _SIGHT
    while not path.exists():
        if time.monotonic() > ends:
            raise StartError(
                f"{path} was written on another machine and is not here. --out must be in a folder "
                "that all machines share."
            )
        time.sleep(_LOOK)
