"""Orders of methods: do they differ at all, by how much at least, and do they hold elsewhere?"""

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
from benchmark.store import Record

Kind = Literal["fold", "seed", "model", "metric"]
EXACT = 8  # rows of which all orders are counted: 40 320


@dataclass(frozen=True)
class Friedman:
    """Whether methods differ, by their ranks within each viewpoint.

    Args:
        statistic: Friedman's chi squared.
        p: of it, if all methods were alike.
        ranks: index explainer, average rank from 1 (best), best first.
        critical_difference: of average ranks, at 0.05, after Nemenyi.
        scores: that it was found from, a row a viewpoint.
    """

    statistic: float
    p: float
    ranks: pd.Series
    critical_difference: float
    scores: pd.DataFrame

    @cached_property
    def nemenyi(self) -> pd.DataFrame:
        """p of each pair, index and columns explainer."""
        # Costs a second to import, and a board shows Nemenyi's critical difference alone.
        import scikit_posthocs

        found = scikit_posthocs.posthoc_nemenyi_friedman(self.scores.to_numpy())
        found.index = found.columns = self.scores.columns
        return found


def friedman(scores: pd.DataFrame, *, alpha: float = 0.05) -> Friedman:
    """Friedman's test with viewpoints as blocks, and Nemenyi's comparisons after it.

    Args:
        scores: as `scores_by_view` gives it, higher is better; columns with NaN are left out.
        alpha: level of the critical difference.
    Raises:
        ValueError: for fewer than three methods or two viewpoints.
    Source: Demsar 2006, "Statistical comparisons of classifiers over multiple data sets", JMLR 7.
    """
    whole = scores.loc[:, scores.notna().all()]
    views, methods = whole.shape
    if methods < 3 or views < 2:
        raise ValueError(f"Friedman's test takes 3 methods and 2 viewpoints, there are {methods} and {views}")
    if (whole.nunique(axis=1) == 1).all():  # ties alone have no ranks that scipy could divide by
        statistic, p = 0.0, 1.0
    else:
        statistic, p = stats.friedmanchisquare(*(whole[name] for name in whole))
    ranks = whole.rank(axis=1, ascending=False).mean().sort_values()
    # Nemenyi's q is the studentised range for infinitely many degrees of freedom over sqrt(2).
    q = stats.studentized_range.ppf(1 - alpha, methods, np.inf) / np.sqrt(2)
    critical = float(q * np.sqrt(methods * (methods + 1) / (6 * views)))
    return Friedman(float(statistic), float(p), ranks, critical, whole)


def critical_difference_diagram(found: Friedman) -> Figure:
    """Average ranks on a line; a bar joins methods that Nemenyi's test does not tell apart."""
    import scikit_posthocs

    figure = Figure(figsize=(9.0, 1.2 + 0.16 * len(found.ranks)), layout="constrained")
    axes = figure.subplots()
    order = list(found.ranks.index)
    scikit_posthocs.critical_difference_diagram(
        found.ranks, found.nemenyi.loc[order, order], ax=axes, label_fmt_left="{label} ({rank:.1f})",
        label_fmt_right="({rank:.1f}) {label}", color_palette=dict.fromkeys(order, "#0072B2"),
        crossbar_props={"color": "#D55E00", "linewidth": 2.5}, elbow_props={"linewidth": 0.8},
        text_h_margin=0.3,
    )  # fmt: skip
    for line in axes.get_lines():
        along, height = (np.asarray(one, float) for one in (line.get_xdata(), line.get_ydata()))
        if len(np.unique(height)) == 1:  # a bar's points come from a set, in another order each time
            line.set_data([along.min(), along.max()], [height[0], height[0]])
    axes.set_title(
        f"average rank over viewpoints, best left; critical difference {found.critical_difference:.2f}",
        fontsize=9,
    )
    return figure


def orders_by(records: Sequence[Record], kind: Kind) -> dict[str, pd.Series]:
    """The methods' scores by fold, seed, model or metric, each an order of its own.

    Args:
        records: of one variant; of the several models for "model".
        kind: what tells the orders apart.
    Returns:
        for each its explainers' scores, higher is better: metrics of which lower is better are negated. Seeds
        are averaged over, then folds and models; an explainer that lacks one of those that others have in
        this order is NaN there, as its mean would be of other images.
    """
    names = _metrics(records) if kind == "metric" else ["iou_auc"]
    rows = [
        {
            "fold": record["fold"], "seed": record["seed"], "model": record["model"], "metric": name,
            "explainer": record["explainer"], "score": _sign(name) * record["scores"][name],
        }
        for record, name in product(records, names)
        if record["status"] != "failed" and record["scores"].get(name) is not None
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
    """Kendall's tau-b between each two orders, over the methods both have; NaN for fewer than two.

    Args:
        orders: for each, the score of each explainer, higher is better.
    Source: Kendall 1945; 1 is the same order, 0 none in common, -1 the reverse.
    """
    names = list(orders)
    return pd.DataFrame(
        [[_tau(orders[one], orders[other]) for other in names] for one in names], index=names, columns=names
    )


def spearman(ours: pd.Series, paper: pd.Series) -> tuple[float, float, int]:
    """Spearman's rank correlation over the rows both have, its two-sided p, and how many these are.

    The p counts all orders there are for up to 8 rows, and is Student's approximation beyond. NaN for fewer
    than three rows, or if all of one side are equal.
    """
    both = pd.concat([ours, paper], axis=1, join="inner").dropna().to_numpy(float)
    if len(both) < 3 or (both == both[0]).all(axis=0).any():
        return float("nan"), float("nan"), len(both)
    if len(both) > EXACT:
        found = stats.spearmanr(both[:, 0], both[:, 1])
        return float(found.statistic), float(found.pvalue), len(both)
    ranks = stats.zscore(stats.rankdata(both, axis=0), axis=0)

    def rho(order: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        return np.asarray((order * ranks[:, 1]).mean(axis=axis))

    exact = stats.permutation_test(
        (ranks[:, 0],), rho, permutation_type="pairings", n_resamples=np.inf, vectorized=True
    )
    return float(exact.statistic), float(exact.pvalue), len(both)


def _tau(one: pd.Series, other: pd.Series) -> float:
    both = pd.concat([one, other], axis=1, join="inner").dropna().to_numpy()
    return float(stats.kendalltau(both[:, 0], both[:, 1]).statistic) if len(both) > 1 else float("nan")


def _metrics(records: Iterable[Record]) -> list[str]:
    known = set(metrics.names())
    return [name for name in dict.fromkeys(n for one in records for n in one["scores"]) if name in known]


def _sign(metric: str) -> int:
    return 1 if metrics.get(metric).higher_is_better else -1
