"""The figure of the score against a factor that differs between views, such as the plant's size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmark.record import Record
from benchmark.report.panel import Key, Panel
from benchmark.report.svg import FAINT, MUTED, SERIES, inline, printable, sentence, sized

BINS = 5


def factor_panel(records: Sequence[Record] | None, key: str, *, factor: str = "size") -> Panel:
    """Draw the mean score of each explainer over bins of the factor, with the standard deviation over views.

    Args:
        records: of a results folder for data with the factor; None if there is no such folder.
        key: prefix of the HTML ids of the figure.
        factor: name of the factor in the records' views.
    """
    about = ("size" if factor == "size" else "factor", f"Score against the plant's {printable(factor)}")
    if not records:
        why = f"no method was measured on plants of several {printable(factor)}s"
        return Panel(*about, "", missing=f"{why}; use 'an8flower run results/size.toml'.")
    table = by_factor(records, factor)
    if table.empty or table["value"].nunique() < 2:
        return Panel(*about, "", missing=f"the records do not contain the {printable(factor)} of each view.")
    bins = binned(table)
    order = _ordered(bins)
    methods = [name for name, role in order if role == "method"]
    colours = dict(zip(methods, SERIES, strict=False))

    def draw() -> Figure:
        figure = sized(300)
        axes = figure.subplots()
        for name, role in reversed(order):
            mine = bins[bins["explainer"] == name]
            colour = colours.get(name, FAINT if role == "method" else MUTED)
            dash = {"floor": ":", "ceiling": "--"}.get(role, "-")
            mark, width = ("o", 1.8) if role == "method" else ("", 1.2)
            axes.plot(mine["value"], mine["score"], f"{dash}{mark}", color=colour, ms=4, lw=width)
            if name in colours:
                low, high = mine["score"] - mine["spread"], mine["score"] + mine["spread"]
                axes.fill_between(mine["value"], low, high, color=colour, alpha=0.12, lw=0)
        shown = bins[(bins["role"] != "ceiling")]
        top = (shown["score"] + shown["spread"]).max() if len(shown) else bins["score"].max()
        axes.set(xlabel=f"{printable(factor)} of the plant (1: the default)", ylabel="IoU-AUC, %",
                 ylim=(0, 1.08 * top))  # fmt: skip
        return figure

    legend = [
        Key(None, f"var(--c{n})", printable(name), _change(bins, name)) for n, name in enumerate(colours)
    ]
    if len(methods) > len(colours):
        legend.append(Key(None, "var(--faint)", "other methods"))
    legend.append(Key(None, "var(--muted)", "floors (dotted) and ceilings (dashed)", dashed=True))
    folds = len({record.fold for record in records})
    caption = (
        f"The {printable(factor)} is drawn at random for each view. Points are means over the views "
        f"in {BINS} bins ({folds} folds), bands their standard deviation. Numbers are the scores for the "
        "smallest and the largest plants. Ceilings may exceed the axes."
    )
    changes = "; ".join(f"{name} {_change(bins, name)}" for name in methods)
    label = sentence(f"Line chart of IoU-AUC against {factor}, from small to large: {changes}.")
    return Panel(*about, caption, inline(draw, f"{key}-{about[0]}", label, {}), tuple(legend))


def by_factor(records: Sequence[Record], factor: str) -> pd.DataFrame:
    """Return explainer, role, value and score (percent), one row per view, fold and explainer, over seeds."""
    parts = []
    for record in records:
        views = record.views
        if record.status == "failed" or not views or factor not in views["factors"]:
            continue
        value = pd.to_numeric(pd.Series(views["factors"][factor]), errors="coerce")
        parts.append(
            pd.DataFrame(
                {
                    "explainer": record.explainer, "role": record.role, "fold": record.fold,
                    "view": views["view"], "value": value,
                    "score": 100 * pd.Series(views["scores"].get("iou_auc", np.nan), dtype=float),
                }
            )
        )  # fmt: skip
    if not parts:
        return pd.DataFrame(columns=["explainer", "role", "value", "score"])
    table = pd.concat(parts, ignore_index=True).dropna()
    keys = ["explainer", "role", "fold", "view", "value"]
    return table.groupby(keys, as_index=False)["score"].mean()


def binned(table: pd.DataFrame, bins: int = BINS) -> pd.DataFrame:
    """Return means and standard deviations over the views of bins with about equal numbers of views.

    Args:
        table: as `by_factor` returns it.
        bins: number of bins.
    Returns:
        explainer, role, value (mean of the bin), score, spread.
    """
    values = np.sort(table["value"].unique())
    edges = np.quantile(values, np.linspace(0, 1, bins + 1))
    inside = np.clip(np.searchsorted(edges, table["value"], side="right") - 1, 0, bins - 1)
    grouped = table.assign(bin=inside).groupby(["explainer", "role", "bin"], as_index=False)
    means = grouped.agg(value=("value", "mean"), score=("score", "mean"), spread=("score", "std"))
    return means.fillna({"spread": 0.0})


def _ordered(bins: pd.DataFrame) -> list[tuple[str, str]]:
    means = bins.groupby(["explainer", "role"])["score"].mean().sort_values(ascending=False)
    return [(str(name), str(role)) for name, role in means.index]


def _change(bins: pd.DataFrame, name: str) -> str:
    scores = bins[bins["explainer"] == name].sort_values("value")["score"]
    return f"{scores.iloc[0]:.0f} → {scores.iloc[-1]:.0f}"
