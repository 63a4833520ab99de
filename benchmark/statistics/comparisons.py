"""Rows of a board compared pair by pair, viewpoint by viewpoint."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.statistics.intervals import intervals

RESAMPLES = 9999
TIE = 1e-9  # two flips whose sums differ by less than this share of the largest possible one are equal


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
    The same flips serve all pairs. Corrected over `others` by Holm's method, which holds for a `first` that
    was named before the scores were seen.

    Args:
        scores: as `scores_by_view` gives it, without NaN in these columns.
        first, others: columns.
        rng: flips the signs, and resamples viewpoints for the intervals.
        resamples: how often. Where there are no more flips than that (13 viewpoints for 9999), all are
            taken; else no p is below 1 / (resamples + 1).
    Returns:
        index explainer, columns difference (first minus other), low, high (95 %), p, p_holm.
    Raises:
        ValueError: for NaN, or fewer than two viewpoints.
    Source: Fisher 1935, "The design of experiments", for the test; Holm 1979 for the correction.
    """
    names = list(others)
    differences = scores[names].rsub(scores[first], axis=0)
    if differences.isna().to_numpy().any():
        raise ValueError(f"{first} and {', '.join(names)} were not all measured in every viewpoint")
    found = pd.DataFrame({"difference": differences.mean()})
    found[["low", "high"]] = intervals(differences, rng=rng, resamples=resamples)
    found["p"] = _sign_flip(differences.to_numpy(float), rng, resamples)
    found["p_holm"] = holm(found["p"].to_numpy())
    return found.rename_axis("explainer")


def compared_with_best(
    scores: pd.DataFrame, *, rng: np.random.Generator, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """Every row beside the one with the highest mean, which has no p of its own.

    Which row is best is read off the same scores, and of many equal rows the luckiest is far above the
    unluckiest. `p_holm` knows nothing of that choice and raises too many false alarms; `p_pairs` is corrected
    over all pairs of rows, among which are those with the best, whichever that is.

    Args, Raises:
        as `compared`, of all columns.
    Returns:
        as `compared`, in the order of the columns, and p_pairs.
    Source: Westfall, Young 1993, "Resampling-based multiple testing": largest statistic of all pairs.
    """
    best = str(scores.mean().idxmax())
    others = [name for name in scores if name != best]
    found = compared(scores, best, others, rng=rng, resamples=resamples).reindex(scores.columns)
    found.loc[best, "difference"] = 0.0
    found.loc[others, "p_pairs"] = _over_all_pairs(scores[[best, *others]].to_numpy(float), rng, resamples)
    return found.rename_axis("explainer")


def groups(
    scores: pd.DataFrame, *, alpha: float = 0.05, rng: np.random.Generator, resamples: int = RESAMPLES
) -> pd.Series:
    """Letters, best first: a row shares the letter of the best row above that it is not told apart from.

    The best row and all that do not differ from it at `alpha` (p_pairs of `compared_with_best`) are "a"; the
    best of the rest and all that do not differ from it are "b"; and so on.

    Args, Raises:
        as `compared`, of all columns.
    """
    if scores.isna().to_numpy().any():
        raise ValueError("not all rows were measured in every viewpoint")
    letters: dict[str, str] = {}
    left = scores
    while left.shape[1]:
        best = str(left.mean().idxmax())
        others = [name for name in left if name != best]
        p = _over_all_pairs(left[[best, *others]].to_numpy(float), rng, resamples)
        together = [best, *(name for name, one in zip(others, p, strict=True) if one >= alpha)]
        letters.update(dict.fromkeys(together, _letters(len(set(letters.values())))))
        left = left.drop(columns=together)
    return pd.Series(letters, dtype=str).reindex(scores.columns)


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
    flipped = np.abs(_flips(len(differences), rng, resamples) @ differences)
    tie = TIE * np.abs(differences).sum(axis=0)
    return np.asarray((flipped >= flipped[0] - tie).mean(axis=0))


def _over_all_pairs(
    scores: NDArray[np.float64], rng: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """p of the first column beside each other one, corrected over all pairs of columns.

    A view's signs are flipped for all pairs together, so that their likeness counts. The statistic is a
    pair's sum over the root of its sum of squares; it grows with Student's t, and flips leave the root alone.

    Args:
        scores: (viewpoints, methods).
    Returns:
        (methods - 1,): the share of flips whose largest statistic over all pairs reaches the pair's own.
    """
    flips = _flips(len(scores), rng, resamples)
    centred = scores - scores.mean(axis=1, keepdims=True)
    flipped = flips @ centred
    largest, seen = np.zeros(len(flips)), np.zeros(0)
    for column in range(scores.shape[1] - 1):
        norms = np.linalg.norm(centred[:, column + 1 :] - centred[:, [column]], axis=0)
        # Rows that are equal everywhere differ in no flip.
        apart = np.abs(flipped[:, column + 1 :] - flipped[:, [column]]) / np.where(norms > 0, norms, np.inf)
        np.maximum(largest, apart.max(axis=1), out=largest)
        if column == 0:
            seen = apart[0]
    return np.asarray([(largest >= one * (1 - TIE)).mean() for one in seen])


def _flips(views: int, rng: np.random.Generator, resamples: int) -> NDArray[np.float64]:
    """(flips, views) of 1 and -1, the first row all 1: all there are, or that one and `resamples` drawn."""
    if 2**views <= resamples:
        negative = (np.arange(2**views)[:, None] >> np.arange(views)) & 1
        return np.where(negative, -1.0, 1.0)
    drawn = rng.choice([-1.0, 1.0], size=(resamples, views))
    return np.concatenate([np.ones((1, views)), drawn])
