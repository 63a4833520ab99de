"""Orders of methods: tests of ranks, critical differences, and agreement between orders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats

from benchmark.metrics import metrics
from benchmark.record import Record

Kind = Literal["fold", "seed", "model", "metric"]
EXACT = 8  # up to this number of rows all orders are counted (40 320)


@dataclass(frozen=True)
class Friedman:
    """Friedman's test of whether methods differ, by their ranks within each view.

    Args:
        statistic: Friedman's chi-squared statistic.
        p: p-value of the statistic under the null hypothesis that all methods are equal.
        ranks: index explainer, average rank from 1 (best), best first.
        critical_difference: Nemenyi's critical difference of average ranks, at the level 0.05.
        scores: the scores that were tested, one row per view.
    """

    statistic: float
    p: float
    ranks: pd.Series
    critical_difference: float
    scores: pd.DataFrame

    @cached_property
    def nemenyi(self) -> pd.DataFrame:
        """Nemenyi's p-value of each pair, index and columns explainer."""
        # The import takes a second, and a board only needs the critical difference.
        import scikit_posthocs

        p = scikit_posthocs.posthoc_nemenyi_friedman(self.scores.to_numpy())
        p.index = p.columns = self.scores.columns
        return p


def friedman(scores: pd.DataFrame, *, alpha: float = 0.05) -> Friedman:
    """Run Friedman's test with views as blocks, and Nemenyi's post-hoc comparisons.

    Args:
        scores: as `scores_by_view` returns it, higher is better; columns with NaN are left out.
        alpha: level of the critical difference.
    Raises:
        ValueError: for fewer than three methods or two views.
    Source: Demsar 2006, "Statistical comparisons of classifiers over multiple data sets", JMLR 7.
    """
    whole = scores.loc[:, scores.notna().all()]
    views, methods = whole.shape
    if methods < 3 or views < 2:
        raise ValueError(f"Friedman's test needs at least 3 methods and 2 views; got {methods} and {views}")
    if (whole.nunique(axis=1) == 1).all():  # SciPy divides by zero if all scores tie
        statistic, p = 0.0, 1.0
    else:
        statistic, p = stats.friedmanchisquare(*(whole[name] for name in whole))
    ranks = whole.rank(axis=1, ascending=False).mean().sort_values()
    # Nemenyi's q is the studentised range for infinitely many degrees of freedom over sqrt(2).
    q = stats.studentized_range.ppf(1 - alpha, methods, np.inf) / np.sqrt(2)
    critical = float(q * np.sqrt(methods * (methods + 1) / (6 * views)))
    return Friedman(float(statistic), float(p), ranks, critical, whole)


def critical_difference_diagram(test: Friedman) -> Figure:
    """Draw average ranks on a line; a bar connects methods without a significant difference (Nemenyi)."""
    import scikit_posthocs

    figure = Figure(figsize=(9.0, 1.2 + 0.16 * len(test.ranks)), layout="constrained")
    axes = figure.subplots()
    order = list(test.ranks.index)
    scikit_posthocs.critical_difference_diagram(
        test.ranks, test.nemenyi.loc[order, order], ax=axes, label_fmt_left="{label} ({rank:.1f})",
        label_fmt_right="({rank:.1f}) {label}", color_palette=dict.fromkeys(order, "#0072B2"),
        crossbar_props={"color": "#D55E00", "linewidth": 2.5}, elbow_props={"linewidth": 0.8},
        text_h_margin=0.3,
    )  # fmt: skip
    for line in axes.get_lines():
        along, height = (np.asarray(values, float) for values in (line.get_xdata(), line.get_ydata()))
        if len(np.unique(height)) == 1:  # the points of a bar come from a set, whose order varies
            line.set_data([along.min(), along.max()], [height[0], height[0]])
    axes.set_title(
        f"average rank over views, best on the left; critical difference {test.critical_difference:.2f}",
        fontsize=9,
    )
    return figure


def orders_by(records: Sequence[Record], kind: Kind) -> dict[str, pd.Series]:
    """Return the methods' scores per fold, seed, model or metric; each gives an order of the methods.

    Args:
        records: of one variant; of several models for the kind "model".
        kind: what the orders are grouped by.
    Returns:
        for each fold, seed, model or metric the scores of the explainers, higher is better: metrics for which
        lower is better are negated. Scores are averaged over seeds, then over folds and models. An explainer
        without a score for a fold or model that others have is NaN: its mean would be over other images.
    """
    names = _metrics(records) if kind == "metric" else ["iou_auc"]
    rows = [
        {
            "fold": record.fold, "seed": record.seed, "model": record.model_name, "metric": name,
            "explainer": record.explainer, "score": _sign(name) * score,
        }
        for record, name in product(records, names)
        if record.status != "failed" and (score := record.scores.get(name)) is not None
    ]  # fmt: skip
    if not rows:
        return {}
    table = pd.DataFrame(rows)
    cells = table.groupby([*dict.fromkeys([kind, "model", "fold"]), "explainer"])["score"].mean()
    return {
        f"{kind} {key}" if kind in ("fold", "seed") else str(key): _of_whole_columns(part)
        for key, part in cells.groupby(level=kind)
    }


def _of_whole_columns(cells: pd.Series) -> pd.Series:
    return cells.unstack("explainer").mean(skipna=False)


def rank_stability(orders: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Return Kendall's tau-b of each pair of orders, over the methods that both have.

    tau is 1 for equal orders, 0 for unrelated ones, -1 for reversed ones, and NaN for fewer than two methods.

    Args:
        orders: name of an order to the scores of its explainers, higher is better.
    Source: Kendall 1945.
    """
    names = list(orders)
    tau = [[_tau(orders[row], orders[column]) for column in names] for row in names]
    return pd.DataFrame(tau, index=names, columns=names)


def spearman(ours: pd.Series, paper: pd.Series) -> tuple[float, float, int]:
    """Return Spearman's rank correlation over the rows both have, its two-sided p-value, and their number.

    The p-value is exact (all orders are counted) for up to 8 rows, and Student's approximation for more. Both
    are NaN for fewer than three rows, or if all scores of one side are equal.
    """
    both = pd.concat([ours, paper], axis=1, join="inner").dropna().to_numpy(float)
    if len(both) < 3 or (both == both[0]).all(axis=0).any():
        return float("nan"), float("nan"), len(both)
    if len(both) > EXACT:
        test = stats.spearmanr(both[:, 0], both[:, 1])
        return float(test.statistic), float(test.pvalue), len(both)
    ranks = stats.zscore(stats.rankdata(both, axis=0), axis=0)

    def rho(order: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        return np.asarray((order * ranks[:, 1]).mean(axis=axis))

    exact = stats.permutation_test(
        (ranks[:, 0],), rho, permutation_type="pairings", n_resamples=np.inf, vectorized=True
    )
    return float(exact.statistic), float(exact.pvalue), len(both)


def _tau(first: pd.Series, second: pd.Series) -> float:
    both = pd.concat([first, second], axis=1, join="inner").dropna().to_numpy()
    return float(stats.kendalltau(both[:, 0], both[:, 1]).statistic) if len(both) > 1 else float("nan")


def _metrics(records: Iterable[Record]) -> list[str]:
    known = set(metrics.names())
    return [name for name in dict.fromkeys(n for record in records for n in record.scores) if name in known]


def _sign(metric: str) -> int:
    return 1 if metrics.get(metric).higher_is_better else -1
