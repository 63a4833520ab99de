"""The table's columns: what each is called, how its figures are written, and which way is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from benchmark.metrics import metrics

Family = Literal["core", "metric", "cost", "count"]


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        name: of the board's rows.
        heading: short, as people see it.
        about: longer, shown on asking.
        family: "core" is always shown, the others can be put away.
        shown: whether it is there at first.
        first: which order a first click gives, "descending" where more is better.
        digits: after the point; None for text.
        most: the value that fills a cell's bar; None for no bar.
    """

    name: str
    heading: str
    about: str
    family: Family = "core"
    shown: bool = True
    first: Literal["ascending", "descending"] = "descending"
    digits: int | None = 1
    most: float | None = None


@dataclass(frozen=True)
class Cell:
    """One figure of one row.

    Args:
        text: as it is read.
        sort: what it is sorted by; None comes last, whichever way.
        share: of the cell's bar, in [0, 1]; None for no bar.
    """

    text: str
    sort: float | str | None
    share: float | None = None


_HEADINGS = {
    "iou_auc_rank": ("by rank", "IoU-AUC of the rank-normalised map, %"),
    "max_iou": ("max-IoU", "IoU at each image's best threshold, %"),
    "pointing_game": ("pointing", "pointing game: the highest value lies on the part, %"),
    "pointing_game_15px": ("± 15 px", "pointing game with 15 px of tolerance, %"),
    "energy_pointing_game": ("energy", "energy pointing game, %"),
    "relevance_mass": ("mass", "share of the relevance on the part, %"),
    "relevance_rank": ("rank acc.", "relevance rank accuracy, %"),
    "average_precision": ("AP", "average precision, %"),
    "roc_auc": ("ROC", "area under the ROC curve, %"),
    "top_k_intersection": ("top-k", "top-k intersection, %"),
}
_AT_FIRST = ("max_iou", "pointing_game", "relevance_mass", "average_precision", "roc_auc")


def columns_of(rows: pd.DataFrame) -> tuple[Column, ...]:
    """The columns that a board has something for, in the page's order.

    Args:
        rows: of a `Leaderboard`.
    """
    before = [
        Column("iou_auc", "score", "IoU-AUC, mean over folds and ± its standard deviation, %"),
        Column("iou_auc_low", "95 %", "95 % interval, by bootstrap over viewpoints"),
        Column("group", "group", "methods that share a letter are not told apart from the group's best",
               first="ascending", digits=None),
        Column("p_holm", "p", "of the difference to the best method, paired by viewpoint, Holm-corrected",
               first="ascending", digits=3),
        Column("normalised", "norm.", "percent of the way from the best floor to the best ceiling"),
    ]  # fmt: skip
    after = [
        Column("ms_per_image", "ms", "milliseconds an image", shown=True, first="ascending", digits=2),
        Column("forward_passes", "forward", "forward passes an image", "cost", False, "ascending"),
        Column("backward_passes", "backward", "backward passes an image", "cost", False, "ascending"),
        Column("peak_mib_per_image", "MiB", "peak memory an image, MiB", "cost", False, "ascending"),
        Column("folds", "folds", "folds measured", "count", False, digits=0),
        Column("images", "images", "images scored", "count", False, digits=0),
        Column("invalid", "invalid", "maps with NaN or infinities, which score 0", "count", False, digits=0),
    ]
    measured = [name.removesuffix("_std") for name in rows if str(name).endswith("_std")]
    found = [*before, *(_metric(name, rows) for name in _ordered(measured)), *after]
    return tuple(column for column in found if column.name in rows and rows[column.name].notna().any())


def cell_of(row: Mapping[str, Any], column: Column) -> Cell:
    """A row's figure in a column."""
    value = row[column.name]
    if column.digits is None:
        return Cell(str(value or ""), str(value) or None)
    if pd.isna(value):
        return Cell("failed" if column.name == "iou_auc" and row["failed"] else "", None)
    number = float(value)
    if column.name == "iou_auc":
        spread = row["iou_auc_std"]
        return Cell(f"{number:.1f}" + ("" if np.isnan(spread) else f" ± {spread:.1f}"), number)
    if column.name == "iou_auc_low":
        return Cell(f"{number:.1f} to {row['iou_auc_high']:.1f}", number)
    if column.name == "p_holm":
        return Cell("< 0.001" if number < 0.001 else f"{number:.3f}", number)
    share = None if column.most is None else min(1.0, max(0.0, number / column.most))
    grouped = f"{number:,.{column.digits}f}".replace(",", " ")
    return Cell(grouped, number, share)


def _ordered(measured: list[str]) -> list[str]:
    known = [name for name in _AT_FIRST if name in measured]
    return known + [name for name in measured if name not in known and name != "iou_auc"]


def _metric(name: str, rows: pd.DataFrame) -> Column:
    heading, about = _HEADINGS.get(name, (name.replace("_", " "), name.replace("_", " ")))
    spec = metrics.get(name) if name in metrics.names() else None
    higher = spec is None or spec.higher_is_better
    percent = spec is None or spec.bounds == (0.0, 1.0)
    return Column(
        name, heading, about, "metric", name in _AT_FIRST, "descending" if higher else "ascending",
        digits=1 if percent else 2, most=100.0 if percent else float(rows[name].max()) or 1.0,
    )  # fmt: skip
