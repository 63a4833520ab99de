"""Confidence intervals of the scores, and scores normalised between floor and ceiling."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

DRAWN_AT_ONCE = 4_000_000  # numbers; keeps memory below 100 MB for any number of rows


def intervals(
    scores: pd.DataFrame, *, confidence: float = 0.95, rng: np.random.Generator, resamples: int = 9999
) -> pd.DataFrame:
    """Return confidence intervals of the mean scores, by a cluster bootstrap over views.

    Whole views are drawn with replacement, the same ones for each row of the board. The bounds are
    bias-corrected and accelerated (BCa), at a level slightly above the requested one. With n views the
    bootstrap underestimates the spread by the factor sqrt((n - 1) / n), and its tails are normal instead of
    Student's. The level used is therefore the one whose normal quantile is sqrt(n / (n - 1)) times Student's.
    docs/statistics.md shows how much this improves the coverage.

    Args:
        scores: as `scores_by_view` returns it. Columns with NaN have the bounds NaN; columns with the same
            score in all views have this score as both bounds.
        confidence: between 0 and 1.
        rng: draws the views.
        resamples: number of resamples.
    Returns:
        index explainer, columns low and high.
    Raises:
        ValueError: for fewer than two views.
    Source: Efron 1987, "Better bootstrap confidence intervals"; Cameron, Gelbach, Miller 2008 for clusters;
        Hesterberg 2015, "What teachers should know about the bootstrap", section 5.3 for the level. Departs:
        Hesterberg widens the percentile interval; here the BCa interval is widened.
    """
    views = len(scores)
    if views < 2:
        raise ValueError(f"an interval needs at least 2 views; got {views}")
    values = scores.to_numpy(float)
    whole = ~np.isnan(values).any(axis=0)
    # A spread that is due to rounding alone counts as none.
    varying = whole & (np.ptp(values, axis=0) > 1e-12 * np.abs(values).max(axis=0))
    bounds = np.where(whole, values[0], np.nan) * np.ones((2, 1))
    if varying.any():
        quantile = np.sqrt(views / (views - 1)) * stats.t.ppf((1 + confidence) / 2, views - 1)
        tail = max(stats.norm.sf(quantile), 0.5 / resamples)  # no resample lies beyond this quantile
        bounds[:, varying] = stats.bootstrap(
            (values[:, varying],), np.mean, axis=0, confidence_level=1 - 2 * tail, n_resamples=resamples,
            method="BCa", batch=max(1, DRAWN_AT_ONCE // values.size), rng=rng,
        ).confidence_interval  # fmt: skip
    return pd.DataFrame(bounds.T, index=scores.columns, columns=["low", "high"])


def normalised(score: float, floor: float, ceiling: float) -> float:
    """Scale a score so that the floor is 0 and the ceiling is 1; NaN if both are equal.

    On a board, `floor` is the score of the best floor row and `ceiling` that of the best ceiling row.

    >>> normalised(0.4, floor=0.2, ceiling=1.0)
    0.25
    """
    return (score - floor) / (ceiling - floor) if ceiling != floor else float("nan")
