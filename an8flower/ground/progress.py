"""Progress of long work: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

LINE_EVERY_S = 5.0
# Before so many units and seconds, an estimate of the time left would be a guess.
SURE_UNITS, SURE_S = 2, 3.0


class Advance(Protocol):
    """Tells of `n` more units done, and in `note` of what is under way."""

    def __call__(self, n: int, note: str = "") -> None: ...


@contextmanager
def progress(task: str, total: int, unit: str, *, done: int = 0) -> Iterator[Advance]:
    """Show how far `task` is.

    Args:
        task: what is done, e.g. "train an8net on single-6c".
        total: how many units there are.
        unit: what they are, in the plural.
        done: how many were done before, which says nothing of the pace now.
    Yields:
        the function to call with each few units that are done.

    >>> with progress("count", total=2, unit="steps") as advance:
    ...     advance(2)
    """
    if total == 0:
        yield lambda n, note="": None
    elif done >= total:
        _say(f"{task}: all {total} {unit} were done before")
        yield lambda n, note="": None
    elif sys.stderr.isatty():
        with _bar(_Pace(task, total, unit, done)) as advance:
            yield advance
    else:
        yield _lines(_Pace(task, total, unit, done))


@dataclass
class _Pace:
    """How far work is, and how fast it goes."""

    task: str
    total: int
    unit: str
    done: int
    before: int = field(init=False)
    begun: float = field(init=False)

    def __post_init__(self) -> None:
        self.before, self.begun = self.done, time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return max(time.monotonic() - self.begun, 1e-9)

    def rate(self) -> str:
        """Units per second, or seconds per unit if that is more than one; empty while it is unknown."""
        new = self.done - self.before
        if new <= 0:
            return ""
        per_s = new / self.elapsed_s
        return f"{per_s:.1f} {self.unit}/s" if per_s >= 1 else f"{1 / per_s:.1f} s/{self.unit.rstrip('s')}"

    def left(self) -> str:
        """Estimated time left; empty while it is unknown."""
        new, elapsed_s = self.done - self.before, self.elapsed_s
        if self.done >= self.total:
            return f"done in {elapsed_s:.1f} s"
        if new < SURE_UNITS or elapsed_s < SURE_S:
            return ""
        return f"{(self.total - self.done) * elapsed_s / new:.0f} s left"


@contextmanager
def _bar(pace: _Pace) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
    from rich.progress import Task as RichTask
    from rich.text import Text

    class Pace(ProgressColumn):
        def render(self, task: RichTask) -> Text:
            return Text(
                pace.left() if task.fields["note"] else ", ".join(filter(None, (pace.rate(), pace.left())))
            )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        TextColumn(pace.unit, markup=False),
        Pace(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    console = Console(stderr=True)
    # What a line has left for the note: the bar, the spaces and the time left take 27 columns.
    room = max(console.width - len(f"{pace.task}{pace.total}/{pace.total}{pace.unit}") - 27, 0)
    with Progress(*columns, console=console) as bar:
        shown = bar.add_task(pace.task, total=pace.total, completed=pace.done, note="")

        def advance(n: int, note: str = "") -> None:
            pace.done += n
            bar.update(shown, advance=n, note=note if len(note) <= room else f"{note[: max(room - 1, 0)]}…")

        yield advance


def _lines(pace: _Pace) -> Advance:
    last = pace.begun

    def advance(n: int, note: str = "") -> None:
        nonlocal last
        pace.done += n
        now = time.monotonic()
        finished = n > 0 and pace.done >= pace.total
        if not finished and now - last < LINE_EVERY_S:
            return
        last = now
        count = f"{pace.done}/{pace.total} {pace.unit}"
        _say(f"{pace.task}: {', '.join(filter(None, (count, note, pace.rate(), pace.left())))}")

    return advance


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201
