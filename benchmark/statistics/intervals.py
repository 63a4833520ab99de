"""Intervals of a row's score, and where it lies between floor and ceiling."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats


def intervals(
    scores: pd.DataFrame, *, confidence: float = 0.95, rng: np.random.Generator, resamples: int = 9999
) -> pd.DataFrame:
    """Cluster bootstrap over viewpoints.

    Whole viewpoints are drawn with replacement, the same ones for every row of the board; the interval is the
    bias-corrected and accelerated one, or the value itself where all viewpoints score the same.

    Args:
        scores: as `scores_by_view` gives it; columns with NaN come back as NaN.
        confidence: between 0 and 1.
        rng: draws the viewpoints.
        resamples: how often.
    Returns:
        index explainer, columns low and high.
    Raises:
        ValueError: for fewer than two viewpoints.
    Source: Efron 1987, "Better bootstrap confidence intervals"; Cameron, Gelbach, Miller 2008 for clusters.
    """
    if len(scores) < 2:
        raise ValueError(f"an interval takes two viewpoints at least, there are {len(scores)}")
    found = pd.DataFrame(index=scores.columns, columns=["low", "high"], dtype=float)
    constant = scores.nunique() == 1
    found.loc[constant, "low"] = found.loc[constant, "high"] = scores.loc[:, constant].iloc[0]
    varying = scores.loc[:, ~constant & scores.notna().all()]
    if not varying.empty:
        bounds = stats.bootstrap(
            (varying.to_numpy(),), np.mean, axis=0, confidence_level=confidence, n_resamples=resamples,
            method="BCa", batch=500, rng=rng,
        ).confidence_interval  # fmt: skip
        found.loc[varying.columns, "low"], found.loc[varying.columns, "high"] = bounds.low, bounds.high
    return found


def normalised(score: float, floor: float, ceiling: float) -> float:
    """The way from floor to ceiling that a score has come, 0 to 1; NaN if the two are one.

    >>> normalised(0.4, floor=0.2, ceiling=1.0)
    0.25
    """
    return (score - floor) / (ceiling - floor) if ceiling != floor else float("nan")
