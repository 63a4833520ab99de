"""Comparisons of the rows of a board, paired by view."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.statistics.intervals import intervals

RESAMPLES = 9999
TIE = 1e-9  # sums of two flips are equal if they differ by less than this share of the largest possible sum


def compared(
    scores: pd.DataFrame,
    first: str,
    others: Sequence[str],
    *,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Compare one row of the board with others, paired by view.

    The test is a two-sided sign-flip test: under the null hypothesis, both signs of the difference in a view
    are equally likely. All pairs use the same flips. The p-values are corrected over `others` by Holm's
    method, which is valid if `first` was chosen before the scores were seen.

    Args:
        scores: as `scores_by_view` returns it, without NaN in these columns.
        first, others: names of columns.
        rng: draws the flips, and the views for the intervals.
        resamples: number of flips. If there are no more possible flips than that (13 views for 9999), all
            are used; otherwise no p is below 1 / (resamples + 1).
    Returns:
        index explainer, columns difference (first minus other), low, high (95 %), p, p_holm.
    Raises:
        ValueError: if a score is NaN, or for fewer than two views.
    Source: Fisher 1935, "The design of experiments", for the test; Holm 1979 for the correction.
    """
    names = list(others)
    differences = scores[names].rsub(scores[first], axis=0)
    if differences.isna().to_numpy().any():
        raise ValueError(
            f"{first} and {', '.join(names)} were not all measured in every view; compare methods that were"
        )
    comparison = pd.DataFrame({"difference": differences.mean()})
    comparison[["low", "high"]] = intervals(differences, rng=rng, resamples=resamples)
    comparison["p"] = _sign_flip(differences.to_numpy(float), rng, resamples)
    comparison["p_holm"] = holm(comparison["p"].to_numpy())
    return comparison.rename_axis("explainer")


def compared_with_best(
    scores: pd.DataFrame, *, rng: np.random.Generator, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """Compare each row with the row of the highest mean, which gets no p-value itself.

    The best row is chosen from the same scores, and the best of many equal rows is far above the worst by
    chance alone. `p_holm` does not allow for this choice and gives too many false positives. `p_pairs` is
    corrected over all pairs of rows, which include the pairs with the best row, whichever row that is.

    Args, Raises:
        as in `compared`, for all columns.
    Returns:
        as `compared`, in the order of the columns, and p_pairs.
    Source: Westfall, Young 1993, "Resampling-based multiple testing": largest statistic of all pairs.
    """
    best = str(scores.mean().idxmax())
    others = [name for name in scores if name != best]
    comparison = compared(scores, best, others, rng=rng, resamples=resamples).reindex(scores.columns)
    comparison.loc[best, "difference"] = 0.0
    p_pairs = _over_all_pairs(scores[[best, *others]].to_numpy(float), rng, resamples)
    comparison.loc[others, "p_pairs"] = p_pairs
    return comparison.rename_axis("explainer")


def groups(
    scores: pd.DataFrame, *, alpha: float = 0.05, rng: np.random.Generator, resamples: int = RESAMPLES
) -> pd.Series:
    """Return a letter per row: rows with the same letter do not differ significantly from the best of them.

    The best row and all rows that do not differ from it (p_pairs of `compared_with_best` >= `alpha`) get "a";
    the best of the remaining rows and all that do not differ from it get "b"; and so on.

    Args, Raises:
        as in `compared`, for all columns.
    """
    if scores.isna().to_numpy().any():
        raise ValueError("not all rows were measured in every view; leave out the columns with NaN")
    letters: dict[str, str] = {}
    remaining = scores
    while remaining.shape[1]:
        best = str(remaining.mean().idxmax())
        others = [name for name in remaining if name != best]
        p_pairs = _over_all_pairs(remaining[[best, *others]].to_numpy(float), rng, resamples)
        group = [best, *(name for name, p in zip(others, p_pairs, strict=True) if p >= alpha)]
        letters.update(dict.fromkeys(group, _letters(len(set(letters.values())))))
        remaining = remaining.drop(columns=group)
    return pd.Series(letters, dtype=str).reindex(scores.columns)


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correct p-values for multiple comparisons by Holm's method.

    The k-th smallest of m p-values is multiplied by m - k + 1; results do not decrease with k and are at
    most 1. The same as statsmodels' `multipletests`, as a test checks; that function runs the garbage
    collector at each call, which takes half a second if PyTorch is loaded.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return corrected


def _letters(k: int) -> str:
    """Return the name of group k: a to z, then aa, ab, ...

    >>> _letters(0), _letters(25), _letters(26)
    ('a', 'z', 'aa')
    """
    more, last = divmod(k, len(ascii_lowercase))
    return (_letters(more - 1) if more else "") + ascii_lowercase[last]


def _sign_flip(
    differences: NDArray[np.float64], rng: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """Return the two-sided p-value of each column of (views, pairs).

    One matrix product serves all pairs, where SciPy's permutation test would flip the signs for each pair; a
    test compares the two.
    """
    flipped = np.abs(_flips(len(differences), rng, resamples) @ differences)
    tie = TIE * np.abs(differences).sum(axis=0)
    return np.asarray((flipped >= flipped[0] - tie).mean(axis=0))


def _over_all_pairs(
    scores: NDArray[np.float64], rng: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """Return p-values of the first column against each other one, corrected over all pairs of columns.

    The signs of a view are flipped for all pairs together, which keeps the correlation between pairs. The
    statistic of a pair is the sum of its differences, divided by the square root of their sum of squares; it
    increases with Student's t, and flips do not change the root.

    Args:
        scores: (views, methods).
    Returns:
        (methods - 1,): the share of flips whose largest statistic over all pairs reaches that of the pair.
    """
    flips = _flips(len(scores), rng, resamples)
    centred = scores - scores.mean(axis=1, keepdims=True)
    flipped = flips @ centred
    largest, observed = np.zeros(len(flips)), np.zeros(0)
    for column in range(scores.shape[1] - 1):
        norms = np.linalg.norm(centred[:, column + 1 :] - centred[:, [column]], axis=0)
        # Columns that are equal in all views differ in no flip.
        statistics = np.abs(flipped[:, column + 1 :] - flipped[:, [column]]) / np.where(
            norms > 0, norms, np.inf
        )
        np.maximum(largest, statistics.max(axis=1), out=largest)
        if column == 0:
            observed = statistics[0]
    return np.asarray([(largest >= statistic * (1 - TIE)).mean() for statistic in observed])


def _flips(views: int, rng: np.random.Generator, resamples: int) -> NDArray[np.float64]:
    """Return flips (flips, views) of 1 and -1, the first one all 1: all flips, or that one and `resamples`
    random ones.
    """
    if 2**views <= resamples:
        negative = (np.arange(2**views)[:, None] >> np.arange(views)) & 1
        return np.where(negative, -1.0, 1.0)
    drawn = rng.choice([-1.0, 1.0], size=(resamples, views))
    return np.concatenate([np.ones((1, views)), drawn])
