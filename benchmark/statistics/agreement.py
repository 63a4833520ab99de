"""How well two boards agree on the order of methods."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats


@dataclass(frozen=True)
class Agreement:
    """Agreement between two orders of the same methods.

    Args:
        tau: Kendall's tau-b of the mean scores, in [-1, 1]; 1 for equal orders.
        low, high: 95 % interval, by bootstrap over views.
        methods, views: how many are compared.
    """

    tau: float
    low: float
    high: float
    methods: int
    views: int


def agreement(
    first: pd.DataFrame, second: pd.DataFrame, *, rng: np.random.Generator, resamples: int = 2000
) -> Agreement:
    """Return Kendall's tau of two boards on the same views, with its interval.

    The views are drawn with replacement, the same ones for both boards. The bounds are percentiles.

    Args:
        first, second: as `scores_by_view` returns them; methods and views that both have are compared,
            columns with NaN are left out.
        rng: draws the views.
        resamples: number of resamples.
    Raises:
        ValueError: for fewer than two methods or two views in common.
    Source: Kendall 1945, "The treatment of ties in ranking problems"; Efron 1979 for the bootstrap.
    """
    views = first.index.intersection(second.index)
    whole = [name for name in first if name in second]
    pair = [board.loc[views, whole].to_numpy(float) for board in (first, second)]
    kept = ~np.isnan(np.concatenate(pair)).any(axis=0)
    pair = [values[:, kept] for values in pair]
    count, methods = pair[0].shape
    if methods < 2 or count < 2:
        raise ValueError(
            f"agreement needs at least 2 methods and 2 views that both boards have; got {methods} and {count}"
        )
    drawn = rng.integers(count, size=(resamples, count))
    taus = [_tau(pair[0][rows].mean(axis=0), pair[1][rows].mean(axis=0)) for rows in drawn]
    low, high = np.nanpercentile(taus, [2.5, 97.5])
    return Agreement(_tau(*(values.mean(axis=0) for values in pair)), float(low), float(high), methods, count)


def _tau(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return float(stats.kendalltau(first, second).statistic)
