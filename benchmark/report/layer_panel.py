"""The figure of each CAM at all layers, compared with the mask at the layer's resolution."""

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
from benchmark.setups import parse_model_name
from explainers.layers import layers

CEILING = "oracle_lowres"
_AT = re.compile(r"([^@?]+)@(\w+)")  # a method at a layer, without other parameters


def layer_panel(board: Leaderboard, key: str) -> Panel:
    """Draw one line per CAM over the model's layers, from the rows "<cam>@<layer>"."""
    about = ("layers", "CAMs by layer")
    table = _table(board.rows)
    order = _in_order(sorted(set(table["layer"])), board.model)
    families = [name for name in dict.fromkeys(table["family"]) if name != CEILING][: len(SERIES)]
    if len(order) < 2 or not families:
        return Panel(*about, "", missing="no CAM was measured at several layers; "
                     "use 'an8flower evaluate --explainer grad_cam@all'.")  # fmt: skip
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
        legend.append(Key(None, "var(--muted)", "the mask at the layer's resolution", dashed=True))
    caption = (
        "The same methods at different layers of the same model, from the input on the left to the output."
    )
    return Panel(*about, caption, inline(draw, f"{key}-layers", sentence(label), titles_of(board.rows)),
                 tuple(legend))  # fmt: skip


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return number, family, layer, score and spread (percent) of the rows whose names contain a layer."""
    rows_at_layers = [
        (k, matched[1], matched[2], row["iou_auc"], row["iou_auc_std"])
        for k, (_, row) in enumerate(rows.iterrows())
        if (matched := _AT.fullmatch(row["explainer"])) and not np.isnan(row["iou_auc"])
    ]
    return pd.DataFrame(rows_at_layers, columns=["number", "family", "layer", "score", "spread"])


def _in_order(names: list[str], model: str) -> list[str]:
    """Sort layers as in the model; those of an unknown model by number, then by name."""
    architecture, _ = parse_model_name(model)
    if architecture in models.names():
        spec = models.get(architecture)
        network = spec.build(2).eval()
        known = [layer.name for layer in layers(network, torch.zeros(1, 3, spec.size_px, spec.size_px))]
        if set(names) <= set(known):
            return [name for name in known if name in names]
    kinds = ("conv", "relu", "pool", "fc")

    def place(name: str) -> tuple[int, int, str]:
        kind = re.sub(r"\d", "", name)
        number = re.sub(r"\D", "", name)
        return (int(number or 0), kinds.index(kind) if kind in kinds else len(kinds), name)

    return sorted(names, key=place)
