"""New models without a gap: the master reads the model repository again and starts new workers.

SIGHUP starts a reload, sent by an operator or by a worker that was asked to load a model. Every
model is run once before it may answer. A model that cannot be run is left out, and its older
version stays.
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
from app.catalogue.catalogue import Catalogue, Model, RepositoryError
from app.catalogue.load import identity_of, load_catalogue, load_model
from app.runtime import Unloaded
from app.settings import Settings

_MOST_FILES = 1 << 20  # above the highest file descriptor
_TRIAL = 20.0  # seconds that a model has for its trial run


def reread(settings: Settings, served: Catalogue, answered: set[str]) -> Flask:
    """Return the application for the current model repository. Each of its models has been run.

    Called in the master. Models that have run are added to `answered` and are not tried again.
    Raises StartError if no model can be served.
    """
    unloaded = Unloaded.of_this_service().read()
    former = list(served)
    broken: dict[Path, str] = {}
    while True:
        catalogue = load_catalogue(
            settings, lambda model: model.card.name in unloaded, broken, former
        )
        failed = try_each(catalogue, answered)
        if not failed:
            return create_app(settings, catalogue)
        broken |= {model.folder: problem for model, problem in failed.items()}
        former = [model for model in former if model not in failed]


def mended(settings: Settings, catalogue: Catalogue, answered: set[str]) -> bool:
    """Return whether a model that was left out can be served now."""
    for folder in catalogue.passing:
        with contextlib.suppress(RepositoryError):
            if not try_each([load_model(folder, settings)], answered):
                return True
    return False


def try_each(models: Iterable[Model], answered: set[str]) -> dict[Model, str]:
    """Return the problems of those `models` that cannot be run; add the others to `answered`.

    The models are run in a child process, since every worker would inherit a session of the master.
    If a model ends the child process, another child tries the models after it. Raises
    RepositoryError if no process can be started.
    """
    waiting = [model for model in models if identity_of(model) not in answered]
    failed = {}
    while waiting:
        try:
            problems = _try_in_turn(waiting)
        except OSError as error:
            raise RepositoryError(f"models cannot be tried now: {error.strerror}") from error
        # The process ended early: the first model without a result ended it.
        if len(problems) < len(waiting):
            culprit = waiting[len(problems)].folder
            problems.append(f"{culprit}: it ended the process that tried it, or took too long")
        for model, problem in zip(waiting, problems, strict=False):
            if problem:
                failed[model] = problem
            else:
                answered.add(identity_of(model))
        waiting = waiting[len(problems) :]
    return failed


def _try_in_turn(models: list[Model]) -> list[str]:
    """Return the problem of each model, or "", in the order of `models`.

    The list is shorter if a model ended the process that tried it. Raises OSError.
    """
    ours, theirs = os.pipe()
    with open(ours, "rb", buffering=0) as pipe:  # noqa: PTH123  (a descriptor, not a path)
        try:
            child = os.fork()
        except OSError:
            os.close(theirs)
            raise
        if child == 0:
            logging.disable()  # the master logs the problems
            os.closerange(3, theirs)  # the listening port too, which the child must not keep open
            os.closerange(theirs + 1, _MOST_FILES)
            try:
                for model in models:
                    problem = dataclasses.replace(model).problem  # a copy: its session is closed
                    os.write(theirs, json.dumps(problem).encode() + b"\n")
            finally:
                os._exit(0)
        os.close(theirs)
        poller, text = select.poll(), b""
        poller.register(pipe, select.POLLIN)
        while poller.poll(1000 * _TRIAL) and (part := pipe.read(65536)):
            text += part
    os.kill(child, signal.SIGKILL)  # it may still be busy with the last model
    os.waitpid(child, 0)
    return [json.loads(line) for line in text.rpartition(b"\n")[0].splitlines()]
