"""How people see the columns of a board: on a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Column:
    """How people see a column of the rows.

    Args:
        name: of the board's column.
        heading: what stands above it.
        text: what a row shows.
        left: aligned to the left.
        terminal: 0 for a column that the terminal has no room for; else those with a larger number go first
            where it is narrow, and those with 1 stay.
    """

    name: str
    heading: str
    text: Callable[[dict[str, Any]], str]
    left: bool = False
    terminal: int = 0


def columns_of(rows: pd.DataFrame, *, published: bool = False) -> list[Column]:
    """Those that were measured; whose word it is only where it is not ours."""
    there = [
        column for column in _COLUMNS if column.name in rows or (published and column.name == "published")
    ]
    return [column for column in there if column.name != "origin" or rows["origin"].any()]


def named(name: str, heading: str, *, left: bool = False, terminal: int = 0) -> Column:
    return Column(name, heading, lambda row: str(row[name] or ""), left, terminal)


def counted(name: str, heading: str, *, terminal: int = 0) -> Column:
    return Column(name, heading, lambda row: "" if pd.isna(row[name]) else str(row[name]), terminal=terminal)


def scored(name: str, heading: str, *, terminal: int = 0) -> Column:
    def text(row: dict[str, Any]) -> str:
        if np.isnan(row[name]):
            return "failed" if row["failed"] else "-"
        spread = row[f"{name}_std"]
        return f"{row[name]:.1f}" + ("" if np.isnan(spread) else f" ± {spread:.1f}")

    return Column(name, heading, text, terminal=terminal)


def measured(name: str, heading: str, digits: int, *, terminal: int = 0) -> Column:
    def text(row: dict[str, Any]) -> str:
        return "" if np.isnan(row[name]) else f"{row[name]:.{digits}f}"

    return Column(name, heading, text, terminal=terminal)


def _interval(row: dict[str, Any]) -> str:
    low, high = row["iou_auc_low"], row["iou_auc_high"]
    return "" if np.isnan(low) else f"{low:.1f} to {high:.1f}"


_COLUMNS = (
    counted("rank", "#", terminal=1),
    named("explainer", "explainer", left=True, terminal=1),
    named("role", "role", left=True),  # the terminal's sections tell
    named("layer", "layer", left=True),
    named("origin", "submission", left=True),
    scored("iou_auc", "IoU-AUC", terminal=1),
    Column("iou_auc_low", "95 %", _interval, terminal=1),
    named("group", "group", terminal=1),
    named("published", "published", terminal=2),
    measured("normalised", "normalised", 1),
    scored("max_iou", "max-IoU"),
    scored("iou_auc_rank", "by rank"),
    scored("pointing_game", "pointing"),
    scored("relevance_mass", "mass"),
    scored("average_precision", "AP"),
    scored("roc_auc", "ROC-AUC"),
    counted("folds", "folds"),
    counted("images", "images"),
    counted("invalid", "invalid"),
    measured("ms_per_image", "ms/image", 2, terminal=3),
    measured("forward_passes", "forward", 1),
    measured("backward_passes", "backward", 1),
    measured("peak_mib_per_image", "MiB/image", 1),
)
