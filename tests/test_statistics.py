"""The board's statistics: known answers, outside libraries, and how often they err under the null."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, permutations, product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from benchmark.experiments.evidence.calibration import circle, normal, poses, simulate, skewed
from benchmark.record import Record
from benchmark.statistics import (
    by_arc,
    compared,
    compared_with_best,
    critical_difference_diagram,
    friedman,
    groups,
    intervals,
    normalised,
    orders_by,
    rank_stability,
    scores_by_view,
    spearman,
)
from benchmark.statistics.comparisons import holm


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def record(name: str, fold: int, views: dict[int, float], **changes: Any) -> Record:
    scores = {"iou_auc": list(views.values()), "max_iou": [2 * value for value in views.values()]}
    fields = {
        "variant": "single-6c", "model": "an8net", "seed": 0, "fold": fold, "explainer": name,
        "key": "k", "identity": {}, "metrics": {}, "role": "method", "source": "", "status": "ok",
        "scores": {metric: float(np.mean(values)) for metric, values in scores.items()},
        "views": {"view": list(views), "images": [25] * len(views), "factors": {}, "scores": scores},
    }  # fmt: skip
    return Record(**fields | changes)


class TestScoresByView:
    def test_is_a_row_a_viewpoint(self):
        records = [
            record("a", 0, {5: 0.1, 10: 0.2}),
            record("a", 1, {1: 0.3}),
            record("b", 0, {5: 0.5, 10: 0.6}),
        ]
        table = scores_by_view(records)
        assert table.index.tolist() == [(0, 5), (0, 10), (1, 1)]
        assert table["a"].tolist() == [0.1, 0.2, 0.3] and np.isnan(table.loc[(1, 1), "b"])
        assert scores_by_view(records, "max_iou")["a"].tolist() == [0.2, 0.4, 0.6]

    def test_averages_seeds_and_leaves_out_what_has_none(self):
        records = [
            record("a", 0, {5: 0.1}),
            record("a", 0, {5: 0.3}, seed=1),
            record("b", 0, {5: 0.3}, status="failed"),
            replace(record("c", 0, {5: 0.3}), views=None),
        ]
        assert scores_by_view(records).to_dict() == {"a": {(0, 5): pytest.approx(0.2)}}
        assert scores_by_view([]).empty

    def test_undefined_scores_are_nan(self):
        a, b = record("a", 0, {5: 0.1, 10: 0.2}), record("b", 0, {5: 0.1, 10: 0.2})
        a.views["scores"]["iou_auc"][0] = None
        assert scores_by_view([a, b])["a"].isna().tolist() == [True, False]
        # A view in which no method has a score is left out.
        assert scores_by_view([a]).index.tolist() == [(0, 10)]


class TestByArc:
    def test_averages_neighbours_whatever_their_fold(self):
        records = [record("a", 0, {2: 0.2, 4: 0.4}), record("a", 1, {1: 0.1, 3: 0.6})]
        arcs = by_arc(scores_by_view(records), views=2)
        assert arcs["a"].tolist() == pytest.approx([0.15, 0.5]) and arcs.index.tolist() == [1, 3]
        assert by_arc(scores_by_view(records), views=1)["a"].tolist() == [0.1, 0.2, 0.6, 0.4]

    def test_what_lacks_a_view_stays_nan_and_broken_arcs_are_refused(self):
        table = scores_by_view([record("a", 0, {1: 0.2, 2: 0.4}), record("b", 0, {1: 0.1})])
        assert by_arc(table, views=2)["b"].isna().all()
        with pytest.raises(ValueError, match="2 views cannot be divided into arcs of 5"):
            by_arc(table)


class TestIntervals:
    def test_are_those_of_every_resample_there_is(self, rng):
        """Of three viewpoints there are 27 resamples; the bounds are among the outermost of them."""
        values = np.array([1.0, 2.0, 6.0])
        means = sorted(np.mean(draw) for draw in product(values, repeat=3))
        found = intervals(pd.DataFrame({"a": values, "b": values[::-1] - 9}), rng=rng)
        assert (
            means[0] <= found.loc["a", "low"] <= means[2] and means[-3] <= found.loc["a", "high"] <= means[-1]
        )
        # Shifted scores, shifted interval; which viewpoint is which does not matter.
        np.testing.assert_allclose(found.loc["b"], found.loc["a"] - 9, atol=1e-9)

    def test_equal_a_slow_loop_from_the_definition(self, rng):
        scores = pd.DataFrame(rng.lognormal(0, 0.5, (20, 2)), columns=["a", "b"])
        found = intervals(scores, rng=np.random.default_rng(1), confidence=0.9)
        draw = np.random.default_rng(2)
        for name in scores:
            assert found.loc[name].tolist() == pytest.approx(slow_bca(scores[name], 0.9, draw), abs=0.02)

    @pytest.mark.parametrize("views", [8, 40])
    def test_hold_the_truth(self, rng, views):
        """The unwidened interval holds it 89 times in 100 for 8 viewpoints, which this would not pass."""
        scores = pd.DataFrame(rng.normal(size=(views, 2000)))
        bounds = intervals(scores, rng=rng, resamples=1999)
        held = ((bounds["low"] <= 0) & (bounds["high"] >= 0)).sum()
        assert stats.binom.ppf(0.001, 2000, 0.94) <= held <= stats.binom.ppf(0.999, 2000, 0.95)

    def test_two_viewpoints_give_no_more_than_what_was_seen(self, rng):
        found = intervals(pd.DataFrame({"a": [1.0, 2.0]}), rng=rng)
        assert found.loc["a"].tolist() == [1, 2]

    def test_of_a_constant_is_the_constant_and_of_nan_is_nan(self, rng):
        found = intervals(pd.DataFrame({"a": [1.0] * 5, "b": [1, 2, 3, 4, np.nan]}), rng=rng)
        assert found.loc["a"].tolist() == [1, 1] and found.loc["b"].isna().all()

    def test_one_viewpoint_is_refused(self, rng):
        with pytest.raises(ValueError, match="needs at least 2 views; got 1"):
            intervals(pd.DataFrame({"a": [1.0]}), rng=rng)


class TestComparisons:
    @pytest.mark.slow
    def test_holm_as_in_the_book_and_as_statsmodels(self, rng):
        # Holm's own procedure by hand: 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 is not below its neighbour.
        assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
        p = rng.uniform(0, 0.2, 50)
        np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])

    def test_p_is_the_share_of_all_flips(self, rng):
        """Four viewpoints, all better by something: 2 of 16 flips are as large, one in each direction."""
        scores = pd.DataFrame({"a": [1.0, 2, 3, 4], "b": [0.5, 1.7, 2.9, 3.6]})
        assert compared(scores, "a", ["b"], rng=rng).loc["b", "p"] == 2 / 16

    def test_p_of_a_difference_of_nothing_is_1(self, rng):
        scores = pd.DataFrame({"a": [0.1, 0.2, 0.3], "b": [0.3, 0.1, 0.2], "c": [0.1, 0.2, 0.3]})
        assert compared(scores, "a", ["b", "c"], rng=rng)["p"].tolist() == [1, 1]

    def test_p_is_scipys(self, rng):
        scores = pd.DataFrame(rng.normal(0.02, 0.06, (30, 3)), columns=["a", "b", "c"])
        found = compared(scores, "a", ["b", "c"], rng=rng)
        for name in ("b", "c"):
            expected = stats.permutation_test(
                (scores["a"] - scores[name],),
                np.mean,
                permutation_type="samples",
                rng=np.random.default_rng(1),
            ).pvalue
            assert found.loc[name, "p"] == pytest.approx(expected, abs=0.02)
        assert found["difference"].tolist() == pytest.approx(
            [scores["a"].mean() - scores[name].mean() for name in ("b", "c")]
        )

    def test_pairing_sees_what_the_rows_alone_do_not(self, rng):
        hard = rng.normal(0, 0.1, 40)
        scores = pd.DataFrame({"a": 0.31 + hard, "b": 0.30 + hard + rng.normal(0, 0.005, 40)})
        assert compared_with_best(scores, rng=rng).loc["b", "p_holm"] < 0.001
        assert intervals(scores, rng=rng).loc["b", "high"] > scores["a"].mean()

    def test_p_over_all_pairs_is_that_of_every_flip_there_is(self, rng):
        """From the definition: in each of 2^6 flips the largest t of all pairs, beside the pair's own."""
        scores = pd.DataFrame(rng.normal([0.9, 0.5, 0.0, 0.2], 1, (6, 4)), columns=["w", "x", "y", "z"])
        best = scores.mean().idxmax()
        found = compared_with_best(scores, rng=rng)

        def t(difference):
            return abs(stats.ttest_1samp(difference, 0).statistic)

        largest = [
            max(t((scores[a] - scores[b]) * np.array(signs)) for a, b in combinations(scores, 2))
            for signs in product([1, -1], repeat=6)
        ]
        for name in scores.columns.drop(best):
            share = np.mean(np.array(largest) >= t(scores[best] - scores[name]) - 1e-9)
            assert found.loc[name, "p_pairs"] == pytest.approx(share)
            assert found.loc[name, "p_pairs"] >= found.loc[name, "p"]

    def test_the_best_row_has_no_p(self, rng):
        scores = pd.DataFrame(rng.normal([0, 3], 1, (20, 2)), columns=["low", "high"])
        found = compared_with_best(scores, rng=rng)
        assert found.index.tolist() == ["low", "high"] and found.loc["high", "difference"] == 0
        assert found.loc["high", ["p", "p_holm", "p_pairs", "low", "high"]].isna().all()
        # Of two rows there is one pair, and nothing to correct but for what the draws make of it.
        assert found.loc["low", "p_pairs"] == pytest.approx(found.loc["low", "p"], abs=0.01)

    def test_groups(self, rng):
        noise = rng.normal(0, 0.01, (40, 4))
        scores = pd.DataFrame(
            noise + np.array([0.1, 0.3, 0.1, 0.5]), columns=["low", "middle", "low too", "high"]
        )
        assert groups(scores, rng=rng).to_dict() == {"low": "c", "middle": "b", "low too": "c", "high": "a"}

    @pytest.mark.slow
    def test_groups_are_corrected_for_picking_the_best(self, rng):
        """Equal rows: Holm tells the luckiest from the unluckiest, all pairs do not."""
        for _ in range(200):
            scores = pd.DataFrame(rng.normal(size=(40, 10)))
            found = compared_with_best(scores.rename(columns=str), rng=rng)
            if found["p_holm"].min() < 0.04 and found["p_pairs"].min() > 0.06:
                break
        else:
            pytest.fail("no such board among 200")
        assert set(groups(scores.rename(columns=str), rng=rng)) == {"a"}

    def test_equal_rows_are_one_group(self, rng):
        same = rng.normal(0, 1, 10)
        assert set(groups(pd.DataFrame({"a": same, "b": same}), rng=rng)) == {"a"}

    def test_nan_is_refused(self, rng):
        scores = pd.DataFrame({"a": [1.0, 2], "b": [1.0, np.nan]})
        with pytest.raises(ValueError, match="not all measured in every view"):
            compared(scores, "a", ["b"], rng=rng)
        with pytest.raises(ValueError, match="not all rows were measured in every view"):
            groups(scores, rng=rng)


class TestRanks:
    # Demsar 2006, table 6: AUC of four classifiers on 14 data sets, a row a data set.
    DEMSAR = pd.DataFrame(
        [
            (0.763, 0.768, 0.771, 0.798), (0.599, 0.591, 0.59, 0.569),
            (0.954, 0.971, 0.968, 0.967), (0.628, 0.661, 0.654, 0.657),
            (0.882, 0.888, 0.886, 0.898), (0.936, 0.931, 0.916, 0.931),
            (0.661, 0.668, 0.609, 0.685), (0.583, 0.583, 0.563, 0.625),
            (0.775, 0.838, 0.866, 0.875), (1, 1, 1, 1),
            (0.94, 0.962, 0.965, 0.962), (0.619, 0.666, 0.614, 0.669),
            (0.972, 0.981, 0.9751, 0.975), (0.957, 0.978, 0.946, 0.97),
        ],
        columns=["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"],
    )  # fmt: skip

    def test_as_in_demsar(self):
        found = friedman(self.DEMSAR)
        assert found.ranks["C4.5"] == pytest.approx(3.143, abs=1e-3)
        assert found.ranks["C4.5+m"] == pytest.approx(2.000, abs=1e-3)
        assert found.ranks["C4.5+cf"] == pytest.approx(2.893, abs=1e-3)
        assert found.ranks["C4.5+m+cf"] == pytest.approx(1.964, abs=1e-3)
        assert found.critical_difference == pytest.approx(1.25, abs=0.005)
        # He has 9.28, without the correction for ties that scipy makes: from the ranks, then.
        uncorrected = 12 * 14 / (4 * 5) * ((found.ranks**2).sum() - 4 * 5**2 / 4)
        assert uncorrected == pytest.approx(9.28, abs=0.01)
        assert uncorrected < found.statistic < 1.2 * uncorrected and found.p < 0.05

    def test_nemenyi_and_the_critical_difference_agree(self):
        found = friedman(self.DEMSAR)
        for one, other in combinations(self.DEMSAR, 2):
            apart = abs(found.ranks[one] - found.ranks[other]) > found.critical_difference
            assert apart == (found.nemenyi.loc[one, other] < 0.05)

    def test_ties_alone_are_no_difference(self):
        found = friedman(pd.DataFrame(np.ones((5, 3)), columns=["a", "b", "c"]))
        assert (found.statistic, found.p) == (0, 1) and found.ranks.tolist() == [2, 2, 2]

    def test_the_diagram_names_every_method(self, tmp_path):
        figure = critical_difference_diagram(friedman(self.DEMSAR))
        shown = " ".join(text.get_text() for text in figure.axes[0].texts)
        assert all(f"{name} (" in shown or f") {name}" in shown for name in self.DEMSAR)

    def test_two_methods_are_refused(self):
        with pytest.raises(ValueError, match="3 methods and 2 views; got 2 and 14"):
            friedman(self.DEMSAR[["C4.5", "C4.5+m"]])

    def test_kendalls_tau(self):
        orders = {
            "one": pd.Series({"a": 4, "b": 3, "c": 2, "d": 1}),
            "reverse": pd.Series({"a": 1, "b": 2, "c": 3, "d": 4}),
            "one swap": pd.Series({"a": 4, "b": 3, "c": 1, "d": 2, "e": 9}),
        }
        tau = rank_stability(orders)
        assert tau.loc["one", "reverse"] == -1 and tau.loc["one", "one"] == 1
        assert tau.loc["one", "one swap"] == pytest.approx(4 / 6)  # 5 pairs agree, 1 does not

    def test_orders(self):
        records = [record("a", 0, {5: 0.1}), record("a", 1, {1: 0.3}), record("b", 0, {5: 0.2})]
        by_fold = orders_by(records, "fold")
        assert by_fold["fold 0"].to_dict() == {"a": 0.1, "b": 0.2}
        assert by_fold["fold 1"].dropna().to_dict() == {"a": 0.3}
        assert set(orders_by(records, "metric")) == {"iou_auc", "max_iou"}
        assert set(orders_by(records, "model")) == {"an8net"}

    def test_a_mean_over_fewer_folds_is_no_score(self):
        records = [record("a", 0, {5: 0.1}), record("a", 1, {1: 0.3}), record("b", 1, {1: 0.2})]
        records += [record("a", 1, {1: 0.5}, seed=1), record("b", 1, {1: 0.2}, seed=1)]
        order = orders_by(records, "metric")["iou_auc"]
        assert order["a"] == pytest.approx((0.1 + 0.4) / 2) and np.isnan(order["b"])
        by_seed = orders_by(records, "seed")
        assert by_seed["seed 1"].to_dict() == {"a": 0.5, "b": 0.2} and np.isnan(by_seed["seed 0"]["b"])
        assert rank_stability(by_seed).loc["seed 1", "seed 1"] == 1
        assert np.isnan(rank_stability(by_seed).loc["seed 0", "seed 1"])

    def test_lower_is_better_is_turned_round(self):
        records = [
            record(name, 0, {5: 0.1}, scores={"deletion": score}) for name, score in (("a", 0.1), ("b", 0.9))
        ]
        order = orders_by(records, "metric")["deletion"]
        assert order["a"] > order["b"]

    def test_spearman(self):
        ours, paper = pd.Series({"a": 3, "b": 2, "c": 1, "x": 9}), pd.Series({"a": 30, "b": 20, "c": 10})
        rho, p, count = spearman(ours, paper)
        assert (rho, count) == (pytest.approx(1), 3) and p == pytest.approx(2 / 6)
        assert np.isnan(spearman(ours[:2], paper)[0])

    def test_spearman_with_ties_and_of_many_rows_is_scipys(self, rng):
        ours, paper = pd.Series([1, 2, 2, 4, 5, 3]), pd.Series([2, 1, 3, 3, 6, 5])
        exact = [stats.spearmanr(order, paper).statistic for order in permutations(ours)]
        rho, p, count = spearman(ours, paper)
        assert (rho, count) == (pytest.approx(stats.spearmanr(ours, paper).statistic), 6)
        assert p == pytest.approx(2 * np.mean(np.array(exact) >= rho - 1e-12), abs=1e-9)
        many = pd.Series(rng.normal(size=12)), pd.Series(rng.normal(size=12))
        assert spearman(*many)[:2] == pytest.approx(tuple(stats.spearmanr(*many)))
        assert np.isnan(spearman(pd.Series([1, 1, 1]), pd.Series([1, 2, 3]))[0])


def test_normalised():
    assert normalised(1, floor=0.5, ceiling=1) == 1 and normalised(0.5, floor=0.5, ceiling=1) == 0
    assert normalised(0.25, floor=0.5, ceiling=1) == -0.5 and np.isnan(normalised(1, floor=1, ceiling=1))


@pytest.mark.slow
@pytest.mark.parametrize("luck", [normal, skewed])
def test_calibration(luck):
    """At most 5 % false alarms where all methods are alike; intervals hold the truth 95 % of the time."""
    found = simulate(120, rng=np.random.default_rng(7), resamples=499, luck=luck)
    # Above these counts a true rate of 5 % would be with a chance below 1 in 1000.
    most = stats.binom.ppf(0.999, found.boards, 0.05)
    assert found.alarms <= most and found.split <= most and found.friedman_alarms <= most
    # The rows of a board share their viewpoints, so they err together: boards count, not intervals.
    assert 0.90 <= found.covered / found.intervals <= 0.99


@pytest.mark.slow
def test_alike_neighbours_raise_no_alarms_about_this_circle_but_do_about_others():
    """What docs/statistics.md warns of, so that it stays true: the wrong question is noticed here."""
    this = simulate(25, rng=np.random.default_rng(7), resamples=499, luck=circle)
    assert this.alarms <= 1 and this.split <= 1 and this.covered >= 0.98 * this.intervals
    other = simulate(25, rng=np.random.default_rng(7), resamples=499, luck=poses)
    assert other.alarms > 12 and other.covered < 0.8 * other.intervals


def slow_bca(values, confidence, rng):
    """Efron 1987, equations 2.3, 3.2 and 6.6, at Hesterberg's level."""
    values, n = np.array(values), len(values)
    draws = np.sort([rng.choice(values, n).mean() for _ in range(9999)])
    bias = stats.norm.ppf(np.mean(draws < values.mean()))
    jackknife = np.array([np.delete(values, k).mean() for k in range(n)])
    influence = jackknife.mean() - jackknife
    acceleration = (influence**3).sum() / (6 * (influence**2).sum() ** 1.5)
    quantile = np.sqrt(n / (n - 1)) * stats.t.ppf((1 + confidence) / 2, n - 1)
    bounds = []
    for z in (-quantile, quantile):
        level = stats.norm.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))
        bounds.append(float(np.quantile(draws, level)))
    return bounds
