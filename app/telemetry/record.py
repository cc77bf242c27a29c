"""The record of the current request, for its log line, its metrics and its trace.

A request has these stages: `wait` (in the system's queue, before a worker is free), `read`,
`decode`, `prepare`, `infer`, `answer`.
"""

import functools
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Inference:
    """The answer of one model about the images of a request."""

    model: str
    version: int
    labels: list[str]  # the predicted class of each image
    confidences: list[float]  # its calibrated probability, 0..1
    unfamiliar: int  # how many of the images are unlike the training data


@dataclass(slots=True)
class Record:
    """The state of one request. Times are those of time.perf_counter, in seconds."""

    request_id: str
    started: float
    waited: float  # seconds in the queue, before `started`
    stages: dict[str, tuple[float, float]] = field(default_factory=dict)  # start, total seconds
    model: str = ""  # the name of the requested model
    version: int = 0  # of that model; runs that are not published have version 0
    inferences: list[Inference] = field(default_factory=list)
    code: str = ""  # the code of the error that the request ended with
    caller: str = ""  # the name of the caller's key
    votes: tuple[tuple[str, int, str, str], ...] = ()  # model, version, label, and up or down
    lost: int = 0  # predictions that could not be kept for a vote


_current: ContextVar[Record | None] = ContextVar("record", default=None)


def begin_record(request_id: str, waited: float) -> Record:
    """Return a new record of a request that begins now, and make it the current one."""
    record = Record(request_id, time.perf_counter(), waited)
    _current.set(record)
    return record


def end_record() -> Record | None:
    """Return the record of the current request, which is over."""
    record = _current.get()
    _current.set(None)
    return record


def current_record() -> Record | None:
    """Return the record of the current request, or None."""
    return _current.get()


def timed(stage: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator that adds a function's time to the `stage` of the current request."""

    def measure(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def measured(*args: P.args, **kwargs: P.kwargs) -> T:
            record = _current.get()
            if record is None:
                return function(*args, **kwargs)
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                first, before = record.stages.get(stage, (began, 0.0))
                record.stages[stage] = first, before + time.perf_counter() - began

        return measured

    return measure


def note_model(name: str, version: int) -> None:
    """Record the model that the request asks."""
    if record := _current.get():
        record.model, record.version = name, version


def note_inference(inference: Inference) -> None:
    """Record the answer of a model."""
    if record := _current.get():
        record.inferences.append(inference)


def note_error(code: str) -> None:
    """Record the code of the error that the request ends with."""
    if record := _current.get():
        record.code = code


def note_vote(model: str, version: int, label: str, kind: str) -> None:
    """Record a vote about an answer of a model: the label of the answer, and `up` or `down`."""
    if record := _current.get():
        record.votes += ((model, version, label, kind),)


def note_lost() -> None:
    """Record that a prediction could not be kept for a vote."""
    if record := _current.get():
        record.lost += 1
