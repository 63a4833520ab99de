"""The columns of a board: headings and cell texts on the terminal, in Markdown and on the report page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from benchmark.gates.rows import MOVES

Row = Mapping[str, Any]
OF_CLASS = "iou_auc of "  # the names of columns with the score of one class begin so
Family = Literal["label", "core", "metric", "cost", "count"]


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        name: key of the column's value in a row.
        heading: short title.
        text: returns the text of a row.
        short: shorter heading, for the report page; by default `heading`.
        about: longer title, which the report page shows on hover.
        left: whether texts are aligned to the left.
        terminal: 0 if the terminal never shows the column. If the terminal is narrow, columns with larger
            numbers are left out first; columns with 1 are always shown.
        markdown: whether Markdown shows the column.
        family: place on the report page. "label" columns are not in its table of scores, "core" columns are
            always shown, the others can be shown and hidden by family.
        shown: whether the report page shows the column at first.
        first: order after the first click on the heading, "descending" if higher is better.
        full: value that fills the bar of a cell on the report page; None for no bar.
    """

    name: str
    heading: str
    text: Callable[[Row], str]
    about: str = ""
    short: str = ""
    left: bool = False
    terminal: int = 0
    markdown: bool = True
    family: Family = "label"
    shown: bool = True
    first: Literal["ascending", "descending"] = "descending"
    full: float | None = None


def columns_of(rows: pd.DataFrame, *, published: bool = False) -> list[Column]:
    """Return the columns that the terminal and Markdown can show.

    Args:
        rows: of a `Leaderboard`. Columns that were not measured are left out, and "origin" if no row was
            submitted.
        published: whether rows have the text "published".
    """
    names = {*rows} | ({"published"} if published else set())
    columns = [column for column in COLUMNS if column.markdown and column.name in names]
    return [column for column in columns if column.name != "origin" or rows["origin"].any()]


def class_columns(rows: pd.DataFrame) -> list[Column]:
    """Return the columns of a table by class: explainer, mean over the classes, each class.

    Args:
        rows: of a `Leaderboard`.
    Returns:
        no column if no record has scores by class.
    """
    of_class = [name for name in rows if name.startswith(OF_CLASS)]
    if not of_class:
        return []
    return [
        named("explainer", "explainer", left=True),
        scored("iou_auc_macro", "mean of classes"),
        *(measured(name, name.removeprefix(OF_CLASS), 1) for name in of_class),
    ]


def named(name: str, heading: str, about: str = "", **options: Any) -> Column:
    """Return a column of texts."""
    return Column(name, heading, lambda row: str(row[name] or ""), about, **options)


def counted(name: str, heading: str, about: str = "", **options: Any) -> Column:
    """Return a column of integers."""
    return Column(name, heading, lambda row: "" if pd.isna(row[name]) else str(row[name]), about, **options)


def scored(name: str, heading: str, about: str = "", **options: Any) -> Column:
    """Return a column of scores with their standard deviation over folds, in percent."""

    def text(row: Row) -> str:
        if np.isnan(row[name]):
            return "failed" if row["failed"] else "-"
        spread = row[f"{name}_std"]
        return f"{row[name]:.1f}" + ("" if np.isnan(spread) else f" ± {spread:.1f}")

    return Column(name, heading, text, about, **options)


def measured(name: str, heading: str, digits: int, about: str = "", **options: Any) -> Column:
    """Return a column of numbers with the given digits after the decimal point."""

    def text(row: Row) -> str:
        return "" if np.isnan(row[name]) else f"{row[name]:.{digits}f}"

    return Column(name, heading, text, about, **options)


def _metric(name: str, heading: str, about: str, **options: Any) -> Column:
    options = {"family": "metric", "full": 100.0, "markdown": False, "shown": False} | options
    return scored(name, heading, about, **options)


def _cost(name: str, heading: str, about: str) -> Column:
    return measured(name, heading, 1, about, family="cost", shown=False, first="ascending")


def _count(name: str, heading: str, about: str) -> Column:
    return counted(name, heading, about, family="count", shown=False)


def _interval(row: Row) -> str:
    low, high = row["iou_auc_low"], row["iou_auc_high"]
    return "" if np.isnan(low) else f"{low:.1f} to {high:.1f}"


def _gate(row: Row) -> str:
    if np.isnan(row["gate"]):
        return ""
    return f"{row['gate']:.0f} {'✓' if row['gate'] > 100 * MOVES else '✗'}"


def _p(row: Row) -> str:
    p = row["p_holm"]
    return "" if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


COLUMNS = (
    counted("rank", "#", terminal=1),
    named("explainer", "explainer", left=True, terminal=1),
    named("role", "role", left=True),  # the terminal has a section for each role
    named("layer", "layer", left=True),
    named("origin", "submission", left=True),
    scored("iou_auc", "IoU-AUC", "IoU-AUC, mean ± standard deviation over folds, %", short="score",
           family="core", terminal=1),
    Column("iou_auc_low", "95 %", _interval, "95 % interval by bootstrap over views", family="core",
           terminal=1),
    named("group", "group",
          "methods with the same letter do not differ significantly from the best of that group",
          family="core", terminal=1, first="ascending"),
    Column("p_holm", "p", _p, "p-value of the difference to the best method, paired by view, Holm-corrected",
           family="core", markdown=False, first="ascending"),
    named("published", "published", terminal=2),
    Column("gate", "gate", _gate, "by how much the share of a cheat rises, in %, if the model cheats; ✓ if "
           "by more than half: a method that does not pass shows the part whatever the model does",
           family="core", terminal=2),
    measured("normalised", "normalised", 1, "normalised: 0 is the best floor, 100 the best ceiling",
             short="norm.", family="core"),
    _metric("max_iou", "max-IoU", "IoU at each image's best threshold, %", markdown=True, shown=True),
    _metric("iou_auc_rank", "by rank", "IoU-AUC of the rank-normalised map, %", markdown=True),
    _metric("iou_auc_macro", "macro", "mean over the classes of their mean IoU-AUC, %"),
    _metric("pointing_game", "pointing", "pointing game: the highest value is on the part, %",
            markdown=True, shown=True),
    _metric("pointing_game_15px", "± 15 px", "pointing game with a tolerance of 15 px, %"),
    _metric("energy_pointing_game", "energy", "energy pointing game, %"),
    _metric("relevance_mass", "mass", "share of the relevance on the part, %", markdown=True, shown=True),
    _metric("relevance_rank", "rank acc.", "relevance rank accuracy, %"),
    _metric("average_precision", "AP", "average precision, %", markdown=True, shown=True),
    _metric("roc_auc", "ROC-AUC", "area under the ROC curve, %", markdown=True, shown=True, short="ROC"),
    _metric("top_k_intersection", "top-k", "top-k intersection, %"),
    _count("folds", "folds", "number of folds"),
    _count("images", "images", "number of scored images"),
    _count("invalid", "invalid", "number of maps with NaN or infinities, which score 0"),
    measured("ms_per_image", "ms/image", 2, "milliseconds per image on one core", short="ms", family="core",
             terminal=3, first="ascending"),
    _cost("forward_passes", "forward", "forward passes per image"),
    _cost("backward_passes", "backward", "backward passes per image"),
    _cost("peak_mib_per_image", "MiB/image", "peak memory per image, MiB"),
)  # fmt: skip
