"""Compare a board with the plain board: what changes when the models are trained by another recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark import statistics
from benchmark.board.columns import OF_CLASS
from benchmark.board.rows import SCORE, SEED, Leaderboard, leaderboard
from benchmark.setups import PLAIN, parse_model_name
from benchmark.statistics import Agreement
from benchmark.store import ResultsError


@dataclass(frozen=True)
class RecipeComparison:
    """A board compared with another one of the same variant, images and architecture.

    Args:
        recipe, other: the recipes of the two boards.
        rows: one row per explainer that both have, in the order of the board: explainer, role, rank and
            other_rank among the methods that both have, score and other (percent), difference with its 95 %
            interval low and high (paired by view, percentage points); and, if both boards have the same views
            and scores by class, the difference of each class as "iou_auc of <class>".
        agreement: of the orders of the methods; None with fewer than two methods or views.
    """

    recipe: str
    other: str
    rows: pd.DataFrame
    agreement: Agreement | None


def compared_with_plain(board: Leaderboard, results: str | Path) -> RecipeComparison | None:
    """Compare a board with the plain board in the same results folder.

    Returns:
        None for the plain board itself, a board of certified images only, or if there is no plain board of
        the same images.
    """
    model, recipe = parse_model_name(board.model)
    if recipe == PLAIN or board.certified_only:
        return None
    try:
        plain = leaderboard(results, board.variant, model)
    except ResultsError:
        return None
    if plain.source.models.shared != board.source.models.shared:
        return None
    return compare(board, plain)


def compare(board: Leaderboard, other: Leaderboard) -> RecipeComparison:
    """Compare two boards of the same images and architecture, on the views that both have."""
    scores, others = (statistics.scores_by_view(one.source.records, SCORE) for one in (board, other))
    ours, theirs = (one.rows.set_index("explainer") for one in (board, other))
    views = scores.index.intersection(others.index)
    if len(views) < max(len(scores), len(others)):  # e.g. one board has fewer folds
        scores, others = scores.loc[views], others.loc[views]
        ours, theirs = (
            part[["role"]].assign(**{SCORE: 100 * values.mean()})
            for part, values in ((ours, scores), (theirs, others))
        )
    names = [name for name in ours.index if name in theirs.index]
    ours, theirs = ours.loc[names], theirs.loc[names]
    rows = pd.DataFrame({"explainer": names, "role": ours["role"].to_numpy()})
    methods = ours["role"] == "method"
    for name, part in (("rank", ours), ("other_rank", theirs)):
        ranks = part[SCORE].where(methods).rank(ascending=False, method="min")
        rows[name] = ranks.astype("Int64").to_numpy()
    rows["score"], rows["other"] = ours[SCORE].to_numpy(), theirs[SCORE].to_numpy()
    rows["difference"] = rows["score"] - rows["other"]
    rows = rows.join(_bounds(scores, others), on="explainer")
    for name in (name for name in ours if name.startswith(OF_CLASS) and name in theirs):
        rows[name] = (ours[name] - theirs[name]).to_numpy()
    return RecipeComparison(
        parse_model_name(board.model)[1],
        parse_model_name(other.model)[1],
        rows,
        _agreement(scores, others, [name for name in names if methods[name]]),
    )


def _bounds(scores: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Return the intervals of the differences by explainer, in percentage points."""
    views = scores.index.intersection(others.index)
    common = [name for name in scores if name in others]
    if len(views) < 2 or not common:
        return pd.DataFrame(columns=["low", "high"], dtype=float)
    differences = scores.loc[views, common] - others.loc[views, common]
    return 100 * statistics.intervals(differences, rng=np.random.default_rng(SEED))


def _agreement(scores: pd.DataFrame, others: pd.DataFrame, methods: list[str]) -> Agreement | None:
    known = [name for name in methods if name in scores and name in others]
    try:
        return statistics.agreement(scores[known], others[known], rng=np.random.default_rng(SEED))
    except ValueError:
        return None
