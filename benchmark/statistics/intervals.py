"""Intervals of a row's score, and where it lies between floor and ceiling."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

DRAWN_AT_ONCE = 4_000_000  # numbers, to keep memory below 100 MB however many rows a board has


def intervals(
    scores: pd.DataFrame, *, confidence: float = 0.95, rng: np.random.Generator, resamples: int = 9999
) -> pd.DataFrame:
    """Cluster bootstrap over viewpoints.

    Whole viewpoints are drawn with replacement, the same ones for every row of the board. The bounds are
    bias-corrected and accelerated, at a level a little above the asked one: with n viewpoints the bootstrap's
    spread is short by sqrt((n - 1) / n) and its tails are normal where Student's belong, so the level is the
    one whose normal quantile is sqrt(n / (n - 1)) times Student's. docs/statistics.md has what that gains.

    Args:
        scores: as `scores_by_view` gives it; columns with NaN come back as NaN, those that score the same in
            every viewpoint as that value.
        confidence: between 0 and 1.
        rng: draws the viewpoints.
        resamples: how often.
    Returns:
        index explainer, columns low and high.
    Raises:
        ValueError: for fewer than two viewpoints.
    Source: Efron 1987, "Better bootstrap confidence intervals"; Cameron, Gelbach, Miller 2008 for clusters;
        Hesterberg 2015, "What teachers should know about the bootstrap", section 5.3 for the level. Departs:
        Hesterberg widens the percentile interval, here it is the accelerated one.
    """
    views = len(scores)
    if views < 2:
        raise ValueError(f"an interval takes two viewpoints at least, there are {views}")
    values = scores.to_numpy(float)
    whole = ~np.isnan(values).any(axis=0)
    # A spread of rounding alone is none.
    varying = whole & (np.ptp(values, axis=0) > 1e-12 * np.abs(values).max(axis=0))
    bounds = np.where(whole, values[0], np.nan) * np.ones((2, 1))
    if varying.any():
        quantile = np.sqrt(views / (views - 1)) * stats.t.ppf((1 + confidence) / 2, views - 1)
        tail = max(stats.norm.sf(quantile), 0.5 / resamples)  # beyond that there is no resample to read off
        bounds[:, varying] = stats.bootstrap(
            (values[:, varying],), np.mean, axis=0, confidence_level=1 - 2 * tail, n_resamples=resamples,
            method="BCa", batch=max(1, DRAWN_AT_ONCE // values.size), rng=rng,
        ).confidence_interval  # fmt: skip
    return pd.DataFrame(bounds.T, index=scores.columns, columns=["low", "high"])


def normalised(score: float, floor: float, ceiling: float) -> float:
    """The way from floor to ceiling that a score has come, 0 to 1; NaN if the two are one.

    On a board the floor is the best floor row and the ceiling the best ceiling row.

    >>> normalised(0.4, floor=0.2, ceiling=1.0)
    0.25
    """
    return (score - floor) / (ceiling - floor) if ceiling != floor else float("nan")
