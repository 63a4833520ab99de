"""Show the progress of long work: a bar on a terminal, otherwise one line every few seconds.

The lines are records of level INFO of the logger "an8flower.ground.progress", which writes them to standard
error. `logging.getLogger("an8flower").setLevel("WARNING")` silences lines and bar.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

LINE_EVERY_S = 5.0
# The remaining time is estimated after this many units and seconds; earlier estimates are unreliable.
SURE_UNITS, SURE_S = 2, 3.0


class _StandardError(logging.Handler):
    """Writes to the current `sys.stderr`, which tests and notebooks replace."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{self.format(record)}\n")
        sys.stderr.flush()


_logger = logging.getLogger(__name__)
# Of the whole project, and only if the user has set none before: otherwise the level of the root logger,
# which is WARNING, would silence the lines.
if logging.getLogger("an8flower").level == logging.NOTSET:
    logging.getLogger("an8flower").setLevel(logging.INFO)
_logger.addHandler(_StandardError())
_logger.propagate = False  # otherwise a handler of the root logger would show each line again


class Advance(Protocol):
    """Reports that `n` more units are done; `note` says what is being done now.

    If work is lost, e.g. because a process has died, `n` is negative. The count that is shown then stays
    until the work is done again.
    """

    def __call__(self, n: int, note: str = "") -> None: ...


@contextmanager
def progress(task: str, total: int, unit: str, *, done: int = 0) -> Iterator[Advance]:
    """Show the progress of a task, inside a `with` block.

    Args:
        task: what is being done, e.g. "train an8net on single-6c".
        total: number of units.
        unit: what a unit is, in the plural, e.g. "frames".
        done: number of units done in earlier runs; they do not count for the speed.
    Yields:
        the function to call whenever units are done.

    >>> with progress("count", total=2, unit="steps") as advance:
    ...     advance(2)
    """
    if total == 0 or not _logger.isEnabledFor(logging.INFO):
        yield lambda n, note="": None
    elif done >= total:
        _logger.info("%s: all %d %s were done before", task, total, unit)
        yield lambda n, note="": None
    elif sys.stderr.isatty():
        with _bar(_Pace(task, total, unit, done)) as advance:
            yield advance
    else:
        yield _lines(_Pace(task, total, unit, done))


@dataclass
class _Pace:
    """How much of a task is done, and how fast."""

    task: str
    total: int
    unit: str
    done: int
    shown: int = field(init=False)
    before: int = field(init=False)
    begun: float = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.shown = self.done
        self.begun = time.monotonic()

    def advance(self, n: int) -> None:
        """Count `n` more units as done; the count that is shown never runs back."""
        self.done += n
        self.shown = max(self.shown, self.done)

    @property
    def elapsed_s(self) -> float:
        return max(time.monotonic() - self.begun, 1e-9)

    def rate(self) -> str:
        """Return units per second, or seconds per unit if slower; "" as long as it is unknown."""
        new = self.done - self.before
        if new <= 0:
            return ""
        per_s = new / self.elapsed_s
        return f"{per_s:.1f} {self.unit}/s" if per_s >= 1 else f"{1 / per_s:.1f} s/{self.unit.rstrip('s')}"

    def left(self) -> str:
        """Return the estimated remaining time; "" as long as it is unknown."""
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
    # Columns left for the note: bar, spaces and remaining time take 27.
    room = max(console.width - len(f"{pace.task}{pace.total}/{pace.total}{pace.unit}") - 27, 0)
    with Progress(*columns, console=console) as bar:
        shown = bar.add_task(pace.task, total=pace.total, completed=pace.done, note="")

        def advance(n: int, note: str = "") -> None:
            pace.advance(n)
            cut = note if len(note) <= room else f"{note[: max(room - 1, 0)]}…"
            bar.update(shown, completed=pace.shown, note=cut)

        yield advance


def _lines(pace: _Pace) -> Advance:
    last = pace.begun

    def advance(n: int, note: str = "") -> None:
        nonlocal last
        pace.advance(n)
        now = time.monotonic()
        finished = n > 0 and pace.done >= pace.total
        if not finished and now - last < LINE_EVERY_S:
            return
        last = now
        count = f"{pace.shown}/{pace.total} {pace.unit}"
        _logger.info("%s: %s", pace.task, ", ".join(filter(None, (count, note, pace.rate(), pace.left()))))

    return advance
