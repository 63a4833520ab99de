"""Per-image scores, and what is kept of them by viewpoint: images of one view are alike, views less so."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from benchmark.store import Record


def mean(scores: pd.Series) -> float | None:
    """Of the images that have a score; None if none has."""
    return None if scores.isna().all() else float(scores.mean())


def by_view(table: pd.DataFrame, names: Sequence[str], factors: pd.DataFrame) -> Record:
    """What statistics need of a table of per-image scores.

    Args:
        table: a row an image, with view and a column a metric.
        names: the metrics.
        factors: a row a viewpoint, a column for each factor that is set.
    Returns:
        lists of equal length: "view", "images", and by name in "factors" and "scores".
    """
    grouped = table.groupby("view")
    views = [int(view) for view in grouped.groups]
    return {
        "view": views,
        "images": grouped.size().tolist(),
        "factors": {name: factors.loc[views, name].tolist() for name in factors},
        "scores": {name: [mean(one) for _, one in grouped[name]] for name in names},
    }
