"""The columns of the page's table of scores: those of the board, with what sorting and bars need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from an8flower.ground.deprecated import renamed
from benchmark.board.columns import COLUMNS, Column
from benchmark.metrics import metrics

__getattr__ = renamed(__name__, {"Cell": "TableCell"})
_KNOWN = {column.name for column in COLUMNS}


@dataclass(frozen=True)
class TableCell:
    """One cell of the table.

    Args:
        text: what the cell shows.
        sort: value that the cell is sorted by; cells with None come last in either order.
        share: length of the cell's bar, in [0, 1]; None for no bar.
    """

    text: str
    sort: float | str | None
    share: float | None = None


def columns_of(rows: pd.DataFrame) -> tuple[Column, ...]:
    """Return the columns with at least one value, in the order of the page.

    Args:
        rows: of a `Leaderboard`.
    """
    columns: list[Column] = []
    for column in COLUMNS:
        if column.name == "folds":  # metrics without an entry in the board's table follow the others
            columns += [_metric(name, rows) for name in _other_metrics(rows)]
        if column.family != "label":
            columns.append(column)
    return tuple(column for column in columns if column.name in rows and rows[column.name].notna().any())


def cell_of(row: Mapping[str, Any], column: Column) -> TableCell:
    """Return the cell of a row in a column."""
    value = row[column.name]
    if isinstance(value, str):
        return TableCell(column.text(row), value or None)
    if pd.isna(value):
        return TableCell(column.text(row) if column.family != "metric" else "", None)
    number = float(value)
    if column.full is None:
        return TableCell(column.text(row), number)
    # The page has no room for the standard deviations of metrics, most of which are in percent.
    text = f"{number:.{1 if column.full == 100.0 else 2}f}"
    return TableCell(text, number, min(1.0, max(0.0, number / column.full)))


def _other_metrics(rows: pd.DataFrame) -> list[str]:
    measured = (str(name).removesuffix("_std") for name in rows if str(name).endswith("_std"))
    return [name for name in measured if name not in _KNOWN]


def _metric(name: str, rows: pd.DataFrame) -> Column:
    spec = metrics.get(name) if name in metrics.names() else None
    higher = spec is None or spec.higher_is_better
    percent = spec is None or spec.bounds == (0.0, 1.0)
    title = name.replace("_", " ")
    return Column(
        name, title, lambda row: str(row[name]), title, family="metric", shown=False,
        first="descending" if higher else "ascending",
        full=100.0 if percent else float(rows[name].max()) or 1.0,
    )  # fmt: skip
