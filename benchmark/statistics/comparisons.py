"""Rows of a board compared pair by pair, viewpoint by viewpoint."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.statistics.intervals import intervals

RESAMPLES = 9999


def compared(
    scores: pd.DataFrame,
    first: str,
    others: Sequence[str],
    *,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """One row of the board beside others, paired by viewpoint.

    Two-sided sign-flip test: under the null the difference in a viewpoint is as likely one way as the other.
    The same flips serve all pairs. Corrected over `others` by Holm's method.

    Args:
        scores: as `scores_by_view` gives it, without NaN in these columns.
        first, others: columns.
        rng: flips the signs, and resamples viewpoints for the intervals.
        resamples: how often; no p is below 1 / (resamples + 1).
    Returns:
        index explainer, columns difference (first minus other), low, high (95 %), p, p_holm.
    Raises:
        ValueError: for NaN, or fewer than two viewpoints.
    Source: Fisher 1935 for the test; Holm 1979 for the correction.
    """
    names = list(others)
    differences = scores[names].rsub(scores[first], axis=0)
    if differences.isna().to_numpy().any():
        raise ValueError(f"{first} and {', '.join(names)} were not all measured in every viewpoint")
    found = pd.DataFrame({"difference": differences.mean()})
    found[["low", "high"]] = intervals(differences, rng=rng, resamples=resamples)
    return found.join(_corrected(differences, rng, resamples)).rename_axis("explainer")


def compared_with_best(
    scores: pd.DataFrame, *, rng: np.random.Generator, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """Every row beside the one with the highest mean, which has no p of its own.

    Which row is best is read off the same scores, so that a p just below the level is weaker than it looks.

    Args, Raises:
        as `compared`, of all columns.
    Returns:
        as `compared`, in the order of the columns.
    """
    best = str(scores.mean().idxmax())
    found = compared(
        scores, best, [name for name in scores if name != best], rng=rng, resamples=resamples
    ).reindex(scores.columns)
    found.loc[best, "difference"] = 0.0
    return found.rename_axis("explainer")


def groups(
    scores: pd.DataFrame, *, alpha: float = 0.05, rng: np.random.Generator, resamples: int = RESAMPLES
) -> pd.Series:
    """Letters, best first: a row shares the letter of the best row above that it is not told apart from.

    The best row and all that do not differ from it at `alpha` (`compared_with_best`) are "a"; the best of the
    rest and all that do not differ from it are "b"; and so on.

    Args, Raises:
        as `compared`, of all columns.
    """
    letters: dict[str, str] = {}
    left = scores
    while left.shape[1]:
        best = left[left.mean().idxmax()]
        p = _corrected(left.drop(columns=best.name).rsub(best, axis=0), rng, resamples)["p_holm"]
        together = [best.name, *p.index[p >= alpha]]
        letters.update(dict.fromkeys(together, _letters(len(set(letters.values())))))
        left = left.drop(columns=together)
    return pd.Series(letters, dtype=str).reindex(scores.columns)


def _corrected(differences: pd.DataFrame, rng: np.random.Generator, resamples: int) -> pd.DataFrame:
    """p and p_holm of each column of differences, a row a viewpoint."""
    p = _sign_flip(differences.to_numpy(), rng, resamples)
    return pd.DataFrame({"p": p, "p_holm": holm(p)}, index=differences.columns)


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """p of each comparison, corrected for there being many.

    The k-th smallest of m times m - k + 1, never below a smaller one's, at most 1. As statsmodels'
    `multipletests`, which tests hold it to; that collects garbage at each call, for half a second where
    PyTorch is loaded.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return corrected


def _letters(k: int) -> str:
    """a to z, then aa, ab, ...

    >>> _letters(0), _letters(25), _letters(26)
    ('a', 'z', 'aa')
    """
    more, last = divmod(k, len(ascii_lowercase))
    return (_letters(more - 1) if more else "") + ascii_lowercase[last]


def _sign_flip(
    differences: NDArray[np.float64], rng: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """Two-sided p of each column of (viewpoints, pairs).

    One product for all pairs, where scipy's permutation test would flip for each; the tests hold it to that.
    """
    signs = rng.choice([-1.0, 1.0], size=(resamples, len(differences)))
    seen = np.abs(differences.sum(axis=0))
    # The flip that leaves all as it is counts too; equal sums may differ in their last digits.
    as_large = np.abs(signs @ differences) >= seen * (1 - 1e-12)
    return np.asarray((1 + as_large.sum(axis=0)) / (1 + resamples))
