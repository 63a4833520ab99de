"""Scores by viewpoint, from records alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmark.store import Record


def scores_by_view(records: Sequence[Record], metric: str = "iou_auc") -> pd.DataFrame:
    """The mean score of each explainer in each viewpoint.

    All that comes from one viewpoint, of every class, shows one pose, so its scores are alike;
    a row of this table is one cluster.

    Args:
        records: of one variant and model; failed ones, and those without means by viewpoint, are left out.
        metric: registry name.
    Returns:
        index (fold, view), a column an explainer, in the metric's own units, seeds averaged; NaN where an
        explainer has no score but another has. Of such columns `intervals` gives NaN, `friedman` leaves
        them out, comparisons refuse them.
    """
    parts = [
        pd.DataFrame(
            {
                "fold": record["fold"],
                "view": record["views"]["view"],
                "explainer": record["explainer"],
                "score": pd.Series(record["views"]["scores"][metric], dtype=float),
            }
        )
        for record in records
        if record["status"] != "failed" and record["views"] and metric in record["views"]["scores"]
    ]
    if not parts:
        return pd.DataFrame(index=pd.MultiIndex.from_arrays([[], []], names=["fold", "view"]))
    table = pd.concat(parts, ignore_index=True)
    by_view = table.groupby(["fold", "view", "explainer"])["score"].mean()
    return by_view.unstack("explainer").dropna(how="all").rename_axis(columns=None)


def by_arc(scores: pd.DataFrame, views: int = 5) -> pd.DataFrame:
    """The same by arcs of neighbouring viewpoints, whose means are less alike than single views.

    With it in place of `scores_by_view`, intervals and comparisons speak of other poses than those that were
    rendered, though still too surely; docs/statistics.md has by how much.

    Args:
        scores: as `scores_by_view` gives it.
        views: an arc's; 5 of 40 span 45 degrees.
    Returns:
        index arc (its first viewpoint), the columns of `scores`.
    Raises:
        ValueError: if the viewpoints do not make whole arcs.
    """
    if views < 1 or len(scores) % views:
        raise ValueError(f"{len(scores)} viewpoints do not make whole arcs of {views}")
    round_the_plant = scores.droplevel("fold").sort_index()
    firsts = np.repeat(round_the_plant.index[::views], views)
    return round_the_plant.groupby(firsts).mean(skipna=False).rename_axis("arc")
