"""Orders of methods: do they differ at all, by how much at least, and do they hold elsewhere?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import pandas as pd
import scikit_posthocs
from matplotlib.figure import Figure
from scipy import stats

from benchmark.metrics import metrics
from benchmark.store import Record

Kind = Literal["fold", "seed", "model", "metric"]


@dataclass(frozen=True)
class Friedman:
    """Whether methods differ, by their ranks within each viewpoint.

    Args:
        statistic: Friedman's chi squared.
        p: of it, if all methods were alike.
        ranks: index explainer, average rank from 1 (best), best first.
        critical_difference: of average ranks, at 0.05, after Nemenyi.
        nemenyi: p of each pair, index and columns explainer.
    """

    statistic: float
    p: float
    ranks: pd.Series
    critical_difference: float
    nemenyi: pd.DataFrame


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
    statistic, p = stats.friedmanchisquare(*(whole[name] for name in whole))
    ranks = whole.rank(axis=1, ascending=False).mean().sort_values()
    # Nemenyi's q is the studentised range for infinitely many degrees of freedom over sqrt(2).
    q = stats.studentized_range.ppf(1 - alpha, methods, np.inf) / np.sqrt(2)
    nemenyi = scikit_posthocs.posthoc_nemenyi_friedman(whole.to_numpy())
    nemenyi.index = nemenyi.columns = whole.columns
    critical = float(q * np.sqrt(methods * (methods + 1) / (6 * views)))
    return Friedman(float(statistic), float(p), ranks, critical, nemenyi)


def critical_difference_diagram(found: Friedman) -> Figure:
    """Average ranks on a line; a bar joins methods that Nemenyi's test does not tell apart."""
    figure = Figure(figsize=(9.0, 1.2 + 0.16 * len(found.ranks)), layout="constrained")
    axes = figure.subplots()
    order = list(found.ranks.index)
    scikit_posthocs.critical_difference_diagram(
        found.ranks, found.nemenyi.loc[order, order], ax=axes, label_fmt_left="{label} ({rank:.1f})",
        label_fmt_right="({rank:.1f}) {label}", color_palette=dict.fromkeys(order, "#0072B2"),
        crossbar_props={"color": "#D55E00", "linewidth": 2.5}, elbow_props={"linewidth": 0.8},
        text_h_margin=0.3,
    )  # fmt: skip
    axes.set_title(
        f"average rank over viewpoints, best left; critical difference {found.critical_difference:.2f}",
        fontsize=9,
    )
    return figure


def orders_by(records: Sequence[Record], kind: Kind) -> dict[str, pd.Series]:
    """The methods' scores by fold, seed, model or metric, each an order of its own.

    Args:
        records: of one variant; of the several models for "model".
        kind: what tells the orders apart; folds and seeds are averaged over otherwise. Higher is better in
            each, metrics of which lower is better are negated.
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
    return {
        f"{kind} {key}" if kind in ("fold", "seed") else str(key): part.groupby("explainer")["score"].mean()
        for key, part in table.groupby(kind)
    }


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
    """Spearman's rank correlation over the rows both have, its exact p, and how many these are.

    The p is from all orders there are for up to 8 rows, from 9 999 of them beyond; NaN for fewer than
    three rows.
    """
    both = pd.concat([ours, paper], axis=1, join="inner").dropna().to_numpy(float)
    if len(both) < 3:
        return float("nan"), float("nan"), len(both)
    fixed = both[:, 1]
    found = stats.permutation_test(
        (both[:, 0],), lambda order: stats.spearmanr(order, fixed).statistic, permutation_type="pairings",
        n_resamples=np.inf if len(both) <= 8 else 9999, rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(found.statistic), float(found.pvalue), len(both)


def _tau(one: pd.Series, other: pd.Series) -> float:
    both = pd.concat([one, other], axis=1, join="inner").dropna().to_numpy()
    return float(stats.kendalltau(both[:, 0], both[:, 1]).statistic) if len(both) > 1 else float("nan")


def _metrics(records: Iterable[Record]) -> list[str]:
    known = set(metrics.names())
    return [name for name in dict.fromkeys(n for one in records for n in one["scores"]) if name in known]


def _sign(metric: str) -> int:
    return 1 if metrics.get(metric).higher_is_better else -1
