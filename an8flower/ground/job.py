"""A job, its events, and its channel for messages."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["told", "retried", "done", "raised", "died", "overdue"]
FINAL: tuple[Kind, ...] = ("done", "raised", "died", "overdue")


class JobWarning(UserWarning):
    """A warning for the user; a worker passes it on to the process that started the job."""


@dataclass(frozen=True)
class Job:
    """A call to make.

    Args:
        call: a function of a module, called as `call(tell, **arguments)`; see `Tell`.
        arguments: its keyword arguments; pickled for a worker.
        fresh: run it in a worker that has run nothing before.
        attempts: how many workers may die while they run it before the job counts as "died".
    """

    call: Callable[..., Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    fresh: bool = False
    attempts: int = 1


@dataclass(frozen=True)
class Event:
    """News of a job.

    Args:
        kind: "told" is a message on the way, "retried" that its worker died and it starts again. The last
            event is "done", "raised", "died" (its worker), or "overdue" (its worker was stopped).
        value: what it sent or returned; the exception; otherwise how the worker ended, as text.
        after: the last note of what the job was doing.
    """

    kind: Kind
    value: Any = None
    after: Any = None


class Tell:
    """The channel from a job to the process that started it.

    `tell(value)` reports progress. `tell.note(value)` notes what the job is doing now; the note is read only
    if the worker ends. `tell.within(seconds)` sets the time within which the next message must come, None for
    no limit. `tell.retire()` asks that the worker run no other job afterwards.
    """

    def __init__(self, send: Callable[[tuple[str, Any]], None]) -> None:
        self._send = send

    def __call__(self, value: Any) -> None:
        self._send(("told", value))

    def note(self, value: Any) -> None:
        self._send(("note", value))

    def within(self, seconds: float | None) -> None:
        self._send(("within", seconds))

    def retire(self) -> None:
        self._send(("retire", None))


# Called with each event of a job; returns further jobs to run.
Listener = Callable[[Job, Event], Iterable[Job]]


def outcome(call: Callable[..., Any], tell: Tell, arguments: dict[str, Any]) -> tuple[Kind, Any]:
    """Make a call and return its outcome in the form in which a worker sends it back."""
    try:
        return "done", call(tell, **arguments)
    except Exception as error:
        told = traceback.format_exc()
        error.__traceback__ = error.__cause__ = error.__context__ = None
        error.add_note(f"in a worker:\n{told}")
        return "raised", error
