"""Each CAM at every layer, beside what a perfect map of that layer's resolution could score."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from benchmark.board.rows import Leaderboard
from benchmark.models import models
from benchmark.report.panel import Key, Panel
from benchmark.report.score_panels import titles_of
from benchmark.report.svg import MUTED, SERIES, inline, printable, sentence, sized
from explainers.layers import layers

CEILING = "oracle_lowres"
_AT = re.compile(r"([^@?]+)@(\w+)")  # a method at a layer, and nothing else changed


def layer_panel(board: Leaderboard, key: str) -> Panel:
    """A line a CAM over the model's layers, from rows named "<cam>@<layer>"."""
    about = ("layers", "The layer a CAM looks at")
    table = _table(board.rows)
    order = _in_order(sorted(set(table["layer"])), board.model)
    families = [name for name in dict.fromkeys(table["family"]) if name != CEILING][: len(SERIES)]
    if len(order) < 2 or not families:
        return Panel(*about, "", missing="No CAM was measured at several layers; "
                     "'an8flower evaluate --explainer grad_cam@all' does that.")  # fmt: skip
    place = {layer: x for x, layer in enumerate(order)}

    def draw() -> Figure:
        figure = sized(300)
        axes = figure.subplots()
        for family in (CEILING, *families):
            mine = table[table["family"] == family]
            if mine.empty:
                continue
            mine = mine.assign(x=mine["layer"].map(place)).sort_values("x")
            ceiling = family == CEILING
            colour = MUTED if ceiling else SERIES[families.index(family)]
            axes.plot(mine["x"], mine["score"], "--" if ceiling else "-", color=colour, lw=1.6)
            spread = mine["spread"].fillna(0)
            axes.fill_between(mine["x"], mine["score"] - spread, mine["score"] + spread, color=colour,
                              alpha=0.15, lw=0)  # fmt: skip
            for row in mine.itertuples():
                axes.plot(
                    [row.x], [row.score], "D" if ceiling else "o", color=colour, ms=5, gid=f"row{row.number}"
                )
        axes.set_xticks(range(len(order)), order, rotation=35, ha="right", rotation_mode="anchor")
        axes.set(ylabel="IoU-AUC, %", ylim=(0, None), xlim=(-0.3, len(order) - 0.7))
        return figure

    best = table[table["family"] != CEILING]
    best = best.loc[best["score"].idxmax()]
    label = (
        f"Line chart of IoU-AUC of {', '.join(families)} at {len(order)} layers; the highest is "
        f"{best['family']} at {best['layer']} with {best['score']:.1f} %."
    )
    legend = [Key(None, f"var(--c{k})", printable(name)) for k, name in enumerate(families)]
    if CEILING in set(table["family"]):
        legend.append(Key(None, "var(--muted)", "a perfect map of that resolution", dashed=True))
    caption = (
        "The same method, read off another layer of the same model, from the input on the left to the output."
    )
    return Panel(*about, caption, inline(draw, f"{key}-layers", sentence(label), titles_of(board.rows)),
                 tuple(legend))  # fmt: skip


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    """number, family, layer, score and spread (percent) of the rows that say their layer."""
    found = [
        (k, matched[1], matched[2], row["iou_auc"], row["iou_auc_std"])
        for k, (_, row) in enumerate(rows.iterrows())
        if (matched := _AT.fullmatch(row["explainer"])) and not np.isnan(row["iou_auc"])
    ]
    return pd.DataFrame(found, columns=["number", "family", "layer", "score", "spread"])


def _in_order(names: list[str], model: str) -> list[str]:
    """As the model has them; those of an unknown model by number, then by name."""
    if model in models.names():
        spec = models.get(model)
        network = spec.build(2).eval()
        known = [one.name for one in layers(network, torch.zeros(1, 3, spec.size_px, spec.size_px))]
        if set(names) <= set(known):
            return [name for name in known if name in names]
    kinds = ("conv", "relu", "pool", "fc")

    def place(name: str) -> tuple[int, int, str]:
        kind = re.sub(r"\d", "", name)
        number = re.sub(r"\D", "", name)
        return (int(number or 0), kinds.index(kind) if kind in kinds else len(kinds), name)

    return sorted(names, key=place)
