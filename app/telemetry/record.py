"""What is known of the request in hand: for its log line, its metrics and its trace.

A request's stages have one name each: `wait` (in the system's queue, before a worker is free),
`read`, `decode`, `prepare`, `infer`, `answer`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import flask

if TYPE_CHECKING:
    from app.catalogue.catalogue import Model
    from app.predict.inference import Outcome

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class Record:
    """One request, as far as it has come. Times are time.perf_counter's, in seconds."""

    request_id: str
    started: float
    waited: float  # seconds in the queue, before `started`
    stages: dict[str, tuple[float, float]] = field(default_factory=dict)  # began, and took in all
    model: Model | None = None  # that was asked
    answers: list[tuple[Model, Outcome]] = field(default_factory=list)
    code: str = ""  # of the error that it ended with
    caller: str = ""  # the name of the key that was shown


_current: ContextVar[Record | None] = ContextVar("record", default=None)


def begin_record(request_id: str, waited: float) -> Record:
    """A record of a request that begins now."""
    record = Record(request_id, time.perf_counter(), waited)
    _current.set(record)
    return record


def end_record() -> Record | None:
    """The record of the request in hand, which is over."""
    record = _current.get()
    _current.set(None)
    return record


def current_record() -> Record | None:
    """The record of the request in hand; None where there is none."""
    return _current.get()


def this_request() -> flask.Request:
    """The request in hand itself: Flask's `request` finds out anew at each look which that is."""
    return flask.request._get_current_object()  # type: ignore[attr-defined, no-any-return]


def timed(stage: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Have the time that a function takes counted as that of the request's `stage`."""

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


def note_model(model: Model) -> Model:
    """Say which model the request asks; `model` again."""
    if record := _current.get():
        record.model = model
    return model


def note_answer(model: Model, outcome: Outcome) -> None:
    """Say what `model` made of the request's images."""
    if record := _current.get():
        record.answers.append((model, outcome))


def note_error(code: str) -> None:
    """Say which error the request ends with."""
    if record := _current.get():
        record.code = code
