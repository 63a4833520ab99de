"""Progress of long work: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_EVERY_S = 5.0


@contextmanager
def progress(task: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show how far `task` is; yields the function that tells it of `n` more units done.

    >>> with progress("count", total=2, unit="steps") as advance:
    ...     advance(2)
    """
    if sys.stderr.isatty():
        with _bar(task, total, unit) as advance:
            yield advance
    else:
        yield _lines(task, total, unit)


@contextmanager
def _bar(task: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Task as RichTask
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: RichTask) -> Text:
            return Text(f"{task.speed:.1f} {unit}/s" if task.speed else f"- {unit}/s")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        shown = bar.add_task(task, total=total)
        yield lambda n: bar.advance(shown, n)


def _lines(task: str, total: int, unit: str) -> Callable[[int], None]:
    begun = last = time.monotonic()
    done = 0

    def advance(n: int) -> None:
        nonlocal done, last
        done += n
        now = time.monotonic()
        if done < total and now - last < LINE_EVERY_S:
            return
        last = now
        rate = done / max(now - begun, 1e-9)
        left = f"{(total - done) / rate:.0f} s left" if done < total else f"done in {now - begun:.1f} s"
        print(f"{task}: {done}/{total} {unit}, {rate:.1f} {unit}/s, {left}", file=sys.stderr, flush=True)  # noqa: T201

    return advance
