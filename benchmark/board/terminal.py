"""Print a board on a terminal, which may be narrow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from an8flower.ground.text import printable
from benchmark.board.columns import Column, columns_of
from benchmark.board.published import Published
from benchmark.board.rows import Leaderboard

NAMES = 26  # characters that the terminal should have for the names of explainers


def to_table(board: Leaderboard, width: int = 80, *, published: Published | None = None) -> Table:
    """Return the board as a table for the terminal: methods, floors, ceilings; rows with failures in red.

    Args:
        board: the board.
        width: width of the terminal in characters. On a narrow terminal the table has fewer columns, and
            names are broken after a sign; a word is broken only if it is longer than a line.
        published: the project's scores, shown in their own column.
    """
    only = ", certified images only" if board.certified_only else ""
    of = escape(printable(f"{board.variant}, {board.model}"))
    table = Table(
        title=f"{of}{only}: mean ± std over folds, 95 % interval over views",
        title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    rows = board.rows.to_dict("records")
    for row in rows:
        score = (published.scores if published else {}).get(row["explainer"])
        row["published"] = "" if score is None else f"{score[0]:.1f}"
    columns, room = _that_fit(columns_of(board.rows, published=bool(published)), rows, width)
    for column in columns:
        table.add_column(column.heading, justify="left" if column.left else "right", no_wrap=True)
    last = None
    for row in rows:
        if last not in (None, row["role"]):
            table.add_section()
        last = row["role"]
        cells = (
            escape(broken(text, room) if column.name == "explainer" else text)
            for column, text in ((column, printable(column.text(row))) for column in columns)
        )
        table.add_row(*cells, style="red" if row["failed"] else None)
    return table


def _that_fit(
    columns: Sequence[Column], rows: Sequence[dict[str, Any]], width: int
) -> tuple[list[Column], int]:
    """Return the columns that fit a terminal, and the number of characters left for names."""
    kept = sorted((column for column in columns if column.terminal), key=lambda column: column.terminal)
    names = max((len(printable(str(row["explainer"]))) for row in rows), default=0)
    while True:
        others = [column for column in kept if column.name != "explainer"]
        taken = sum(
            max(len(printable(text)) for text in [column.heading, *map(column.text, rows)]) + 2
            for column in others
        )
        room = width - taken - 1
        if room >= min(names, NAMES) or kept[-1].terminal == 1:
            return [column for column in columns if column in kept], max(room, 8)
        kept.pop()


def broken(name: str, room: int) -> str:
    """Break a method's name into lines of at most `room` characters, after signs where possible.

    >>> broken("captum:IntegratedGradients?n_steps=20", 28)
    'captum:IntegratedGradients?\\nn_steps=20'
    """
    lines = [""]
    for part in re.findall(r"[^@?&:_=./]*[@?&:_=./]?", name):
        if lines[-1] and len(lines[-1]) + len(part) > room:
            lines.append("")
        lines[-1] += part
    # A word that is longer than a line is cut anywhere.
    return "\n".join(line[k : k + room] for line in lines for k in range(0, len(line), room))
