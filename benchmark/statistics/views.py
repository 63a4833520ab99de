"""Mean scores per view, from the records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmark.record import Record


def scores_by_view(records: Sequence[Record], metric: str = "iou_auc") -> pd.DataFrame:
    """Return the mean score of each explainer in each view.

    The images of one view, of all classes, show the same pose, so their scores are alike: a row of this table
    is one cluster.

    Args:
        records: of one variant and model; failed records and records without scores per view are left out.
        metric: name of the metric.
    Returns:
        index (fold, view), one column per explainer, in the metric's own units, averaged over seeds; NaN if
        an explainer has no score in a view where another one has. For columns with NaN, `intervals` returns
        NaN, `friedman` leaves them out, and comparisons raise a ValueError.
    """
    parts = [
        pd.DataFrame(
            {
                "fold": record.fold,
                "view": record.views["view"],
                "explainer": record.explainer,
                "score": pd.Series(record.views["scores"][metric], dtype=float),
            }
        )
        for record in records
        if record.status != "failed" and record.views and metric in record.views["scores"]
    ]
    if not parts:
        return pd.DataFrame(index=pd.MultiIndex.from_arrays([[], []], names=["fold", "view"]))
    table = pd.concat(parts, ignore_index=True)
    by_view = table.groupby(["fold", "view", "explainer"])["score"].mean()
    return by_view.unstack("explainer").dropna(how="all").rename_axis(columns=None)


def by_arc(scores: pd.DataFrame, views: int = 5) -> pd.DataFrame:
    """Average the scores over arcs of neighbouring views; means of arcs are less alike than single views.

    Use it in place of `scores_by_view` if intervals and comparisons shall hold for poses that were not
    rendered. They are then still too optimistic; docs/statistics.md shows by how much.

    Args:
        scores: as `scores_by_view` returns it.
        views: number of views in an arc; 5 of 40 span 45 degrees.
    Returns:
        index arc (its first view), the columns of `scores`.
    Raises:
        ValueError: if the number of views is not a multiple of `views`.
    """
    if views < 1 or len(scores) % views:
        raise ValueError(f"{len(scores)} views cannot be divided into arcs of {views}")
    in_order = scores.droplevel("fold").sort_index()
    firsts = np.repeat(in_order.index[::views], views)
    return in_order.groupby(firsts).mean(skipna=False).rename_axis("arc")
