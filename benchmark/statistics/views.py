"""Scores by viewpoint, from records alone."""

from __future__ import annotations

from collections.abc import Sequence

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
        explainer has no score.
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
    return by_view.unstack("explainer").rename_axis(columns=None)
