"""Summaries of per-image scores: means over all images, for each view, and for each class.

Images of one view are alike, so statistics need the means for each view. A class that a model knows by what
is missing hides in the mean over all classes.
"""

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


def by_class(table: pd.DataFrame, names: Sequence[str], classes: Sequence[str]) -> Json:
    """Return the means for each class of the images.

    Args:
        table: one row per image, with "class" (from 1) and one column per metric.
        names: the metrics.
        classes: names of all classes, in their order.
    Returns:
        lists with one entry for each class of which there are images: "class" (its name), "images", and by
        name in "scores".
    """
    grouped = table.groupby("class")
    return {
        "class": [classes[int(number) - 1] for number in grouped.groups],
        "images": grouped.size().tolist(),
        "scores": {name: [mean(scores) for _, scores in grouped[name]] for name in names},
    }
