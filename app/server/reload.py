"""New models without a gap: the master reads the shelf again, and new workers take over.

SIGHUP makes it happen, from an operator or from a worker that was asked to load a model. Every
model has to be run once before it may answer; one that cannot be run is left out: the older stay.
"""

import contextlib
import dataclasses
import json
import logging
import os
import select
import signal
from collections.abc import Iterable
from pathlib import Path

from flask import Flask

from app import create_app
from app.catalogue.catalogue import Catalogue, Model, ShelfError
from app.catalogue.load import identity_of, load_catalogue, load_model
from app.runtime import Unloaded
from app.settings import Settings

_MOST_FILES = 1 << 20
_TRIAL = 20.0  # seconds that a model has to answer when it is tried


def reread(settings: Settings, served: Catalogue, answered: set[str]) -> Flask:
    """The application for the shelf as it is now, after `served`; each of its models has answered.

    To be called in the master. Those that have answered are noted down in `answered`, and need not
    do so again. Raises StartError where there is nothing to serve.
    """
    unloaded = Unloaded.of_this_service().read()
    former = list(served)
    broken: dict[Path, str] = {}
    while True:
        shelf = load_catalogue(settings, lambda model: model.card.name in unloaded, broken, former)
        failed = try_each(shelf, answered)
        if not failed:
            return create_app(settings, shelf)
        broken |= {model.folder: problem for model, problem in failed.items()}
        former = [model for model in former if model not in failed]


def mended(settings: Settings, catalogue: Catalogue, answered: set[str]) -> bool:
    """Whether one of the models that were left out can be served by now."""
    for folder in catalogue.passing:
        with contextlib.suppress(ShelfError):
            if not try_each([load_model(folder, settings.runs_int8)], answered):
                return True
    return False


def try_each(models: Iterable[Model], answered: set[str]) -> dict[Model, str]:
    """What is wrong with those of `models` that cannot be run; the others are now in `answered`.

    Tried in a process that ends with the attempt: a session in the master would be in every worker.
    Where a model takes the process with it, another one tries the rest. Raises ShelfError where the
    system has no process to spare.
    """
    waiting = [model for model in models if identity_of(model) not in answered]
    failed = {}
    while waiting:
        try:
            problems = _try_in_turn(waiting)
        except OSError as error:
            raise ShelfError(f"models cannot be tried now: {error.strerror}") from error
        if len(problems) < len(waiting):
            culprit = waiting[len(problems)].folder
            problems.append(f"{culprit}: it ended the process that tried it, or did not answer")
        for model, problem in zip(waiting, problems, strict=False):
            if problem:
                failed[model] = problem
            else:
                answered.add(identity_of(model))
        waiting = waiting[len(problems) :]
    return failed


def _try_in_turn(models: list[Model]) -> list[str]:
    """What is wrong with each model, "" for nothing, as far as a process came that tried them.

    Raises OSError.
    """
    ours, theirs = os.pipe()
    with open(ours, "rb", buffering=0) as pipe:  # noqa: PTH123  (a descriptor, not a path)
        try:
            child = os.fork()
        except OSError:
            os.close(theirs)
            raise
        if child == 0:
            logging.disable()  # the master says it, once
            os.closerange(3, theirs)  # the port among them: it is not for this process to keep
            os.closerange(theirs + 1, _MOST_FILES)
            try:
                for model in models:
                    problem = dataclasses.replace(model).problem  # its session is gone with it
                    os.write(theirs, json.dumps(problem).encode() + b"\n")
            finally:
                os._exit(0)
        os.close(theirs)
        poller, text = select.poll(), b""
        poller.register(pipe, select.POLLIN)
        while poller.poll(1000 * _TRIAL) and (part := pipe.read(65536)):
            text += part
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return [json.loads(line) for line in text.rpartition(b"\n")[0].splitlines()]
