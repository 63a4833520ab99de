"""The 5 folds. They group views: all images of a view, of every class, are in the same fold."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from an8flower.ground.deprecated import renamed
from an8flower.protocol import FOLDS, VIEWS_PER_BLOCK, Scheme, Split

__getattr__ = renamed(__name__, {"VIEWS_A_BLOCK": "VIEWS_PER_BLOCK"})


def fold_of(views: ArrayLike, scheme: Scheme = "interleaved") -> NDArray[np.int64]:
    """Return the fold in whose test set each view is.

    Args:
        views: (n,) view numbers, from 1.
        scheme: "interleaved" (view % 5) or "blocks" of 8 neighbouring views.
    Returns:
        (n,) int64, from 0 to 4.
    Raises:
        ValueError: if the scheme is not one of these.

    >>> fold_of([1, 5, 40]).tolist(), fold_of([1, 8, 9, 40], "blocks").tolist()
    ([1, 0, 0], [0, 0, 1, 4])
    """
    views = np.asarray(views, np.int64)
    if scheme == "interleaved":
        return np.asarray(views % FOLDS)
    if scheme == "blocks":
        return np.asarray((views - 1) // VIEWS_PER_BLOCK)
    raise ValueError(f"unknown fold scheme {scheme!r}; known are 'interleaved' and 'blocks'")


def in_split(
    views: ArrayLike, fold: int | None, split: Split, scheme: Scheme = "interleaved"
) -> NDArray[np.bool_]:
    """Return which views belong to a split of a fold.

    Args:
        views: (n,) view numbers, from 1.
        fold: from 0 to 4; None only with split "all".
        split: "test" is the fold itself, "train" the other four folds, "all" all five.
        scheme: "interleaved" (view % 5) or "blocks" of 8 neighbouring views.
    Returns:
        (n,) bool.
    Raises:
        ValueError: if fold, split or scheme is not one of these.
    """
    folds = fold_of(views, scheme)
    if split == "all":
        return np.ones(folds.shape, bool)
    if split not in ("train", "test"):
        raise ValueError(f"unknown split {split!r}; known are 'train', 'test' and 'all'")
    if fold not in range(FOLDS):
        raise ValueError(f"fold {fold} does not exist: there are {FOLDS}, from 0 to {FOLDS - 1}")
    return np.asarray(folds == fold if split == "test" else folds != fold)
