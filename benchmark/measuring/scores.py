"""Summaries of per-image scores. Images of one view are similar, so means are also kept for each view."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from benchmark.record import Json


def mean(scores: pd.Series) -> float | None:
    """Return the mean over the images that have a score; None if none has."""
    return None if scores.isna().all() else float(scores.mean())


def by_view(table: pd.DataFrame, names: Sequence[str], factors: pd.DataFrame) -> Json:
    """Return what statistics need from a table of per-image scores.

    Args:
        table: one row per image, with "view" and one column per metric.
        names: the metrics.
        factors: one row per view, one column for each factor that is set.
    Returns:
        lists of equal length: "view", "images", and by name in "factors" and "scores".
    """
    grouped = table.groupby("view")
    views = [int(view) for view in grouped.groups]
    return {
        "view": views,
        "images": grouped.size().tolist(),
        "factors": {name: factors.loc[views, name].tolist() for name in factors},
        "scores": {name: [mean(scores) for _, scores in grouped[name]] for name in names},
    }
