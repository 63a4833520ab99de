"""The figures of scores: IoU against the threshold, and IoU-AUC against the cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from benchmark.board.rows import Leaderboard
from benchmark.metrics.iou import CURVE_THRESHOLDS
from benchmark.record import Record
from benchmark.report.panel import Key, Panel
from benchmark.report.svg import FAINT, INK, METHOD, MUTED, SERIES, inline, printable, sized

NAMED = len(SERIES)  # methods with their own colour
_EVERY = 2  # draw each second threshold; more cannot be seen


def curves_panel(board: Leaderboard, records: Sequence[Record], key: str) -> Panel:
    """Draw IoU against the threshold, mean over folds, one line per explainer."""
    about = ("curves", "IoU against the threshold")
    lines = _curves(board, records)
    if not lines:
        return Panel(*about, "", missing="no record contains a curve; only methods measured here have one.")
    rows = board.rows
    best = [k for k in lines if rows["role"][k] == "method"][:NAMED]
    colours = dict(zip(best, SERIES, strict=False))
    methods = [lines[k].max() for k in lines if rows["role"][k] == "method"]
    top = 1.06 * max(methods or [lines[k].max() for k in lines])

    def draw() -> Figure:
        figure = sized(300)
        axes = figure.subplots()
        for k in sorted(lines, key=lambda k: (k in colours, -k)):
            role = rows["role"][k]
            dash = {"floor": ":", "ceiling": "--"}.get(role, "-")
            colour = colours.get(k, FAINT if role == "method" else MUTED)
            width = 2.0 if k in colours else 1.0
            axes.plot(
                CURVE_THRESHOLDS[::_EVERY], lines[k][::_EVERY], dash, color=colour, lw=width, gid=f"row{k}"
            )
        axes.set(xlim=(0, 1), ylim=(0, top or 1), xlabel="threshold on the scaled heatmap", ylabel="IoU, %")
        return figure

    label = (
        f"Line chart of IoU against the threshold for {len(lines)} rows; the highest on average is "
        f"{_first(board)}."
    )
    svg = inline(draw, f"{key}-curves", label, titles_of(rows))
    legend = [
        Key(k, f"var(--c{n})", printable(rows["explainer"][k]), f"{rows['iou_auc'][k]:.1f}")
        for n, k in enumerate(best)
    ]
    legend += [
        Key(None, "var(--faint)", "other methods"),
        Key(None, "var(--muted)", "floors (dotted) and ceilings (dashed)", dashed=True),
    ]
    caption = (
        "Each heatmap is scaled to [0, 1] and binarised at the threshold; the area under a line is IoU-AUC. "
        "A high, flat line does not depend on the choice of a threshold. Ceilings may exceed the axes."
    )
    return Panel(*about, caption, svg, tuple(legend))


def cost_panel(board: Leaderboard, key: str) -> Panel:
    """Draw the score against milliseconds per image, with a line through the Pareto front."""
    about = ("cost", "Score against cost")
    rows = board.rows[(board.rows["role"] != "ceiling") & board.rows["iou_auc"].notna()]
    rows = rows[rows["ms_per_image"] > 0]
    if rows.empty:
        return Panel(*about, "", missing="no record contains the cost of its method.")
    front = _front(rows[rows["role"] == "method"])

    def draw() -> Figure:
        figure = sized(300)
        axes = figure.subplots()
        axes.set_xscale("log")
        ordered = front.sort_values("ms_per_image")
        axes.step(ordered["ms_per_image"], ordered["iou_auc"], where="post", color=METHOD, lw=1.2, alpha=0.6)
        for k, row in rows.iterrows():
            _point(axes, int(str(k)), row, k in front.index)
        if len(ordered):
            _label(axes, ordered)
        axes.set(xlabel="milliseconds per image (log scale)", ylabel="IoU-AUC, %")
        axes.set_ylim(bottom=0)
        axes.margins(x=0.08)
        axes.xaxis.set_major_locator(LogLocator(10))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        return figure

    label = (
        f"Scatter plot of IoU-AUC against milliseconds per image, {len(rows)} rows; for {len(front)} methods "
        "no other method is both better and faster."
    )
    svg = inline(draw, f"{key}-cost", label, titles_of(board.rows))
    legend = (
        Key(None, "var(--c0)", "● method; line: no other method is both better and faster"),
        Key(None, "var(--muted)", "□ floor"),
    )
    caption = "Better methods are at the top left. Bars are 95 % intervals. Times are for one core."
    return Panel(*about, caption, svg, legend)


def titles_of(rows: pd.DataFrame) -> dict[str, str]:
    """Return the tooltip of each row, by its gid."""
    return {
        f"row{k}": f"{printable(row['explainer'])}: {row['iou_auc']:.1f} %"
        for k, row in rows.iterrows()
        if pd.notna(row["iou_auc"])
    }


def _curves(board: Leaderboard, records: Sequence[Record]) -> dict[int, NDArray[np.float64]]:
    """Return the curves in percent by row number, in the order of the board."""
    by_name: dict[str, list[list[float]]] = {}
    for record in records:
        if record.status != "failed" and record.curve:
            by_name.setdefault(record.explainer, []).append(record.curve)
    named = ((k, str(name)) for k, name in enumerate(board.rows["explainer"]))
    return {k: 100 * np.mean(by_name[name], axis=0) for k, name in named if name in by_name}


def _front(methods: pd.DataFrame) -> pd.DataFrame:
    """Return the methods for which no other method is both faster and better."""
    by_cost = methods.sort_values(["ms_per_image", "iou_auc"], ascending=[True, False])
    return by_cost[by_cost["iou_auc"] > by_cost["iou_auc"].cummax().shift(fill_value=-np.inf)]


def _point(axes: Axes, number: int, row: pd.Series, leads: bool) -> None:
    method = row["role"] == "method"
    x, gid = row["ms_per_image"], f"row{number}"
    colour = METHOD if method else MUTED
    if pd.notna(row["iou_auc_low"]):
        axes.plot([x, x], [row["iou_auc_low"], row["iou_auc_high"]], color=colour, lw=1, alpha=0.5, gid=gid)
    face = colour if leads else "none"
    axes.plot([x], [row["iou_auc"]], "o" if method else "s", color=colour, mfc=face, ms=6, mew=1.2, gid=gid)


def _label(axes: Axes, front: pd.DataFrame) -> None:
    """Label the best method of the front on its right and the fastest on its left; others have tooltips."""
    for k, align, x in ((-1, "left", 8), (0, "right", -8))[: len(front)]:
        row = front.iloc[k]
        axes.annotate(
            printable(row["explainer"]), (row["ms_per_image"], row["iou_auc"]), color=INK, ha=align,
            va="center", xytext=(x, 0), textcoords="offset points", fontsize=10.5,
        )  # fmt: skip


def _first(board: Leaderboard) -> str:
    return printable(board.rows["explainer"][0]) if len(board.rows) else "none"
