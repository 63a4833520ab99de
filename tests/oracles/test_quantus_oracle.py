"""Quantus' localisation metrics: the same as ours where they are right, and where they are not, how not."""

from __future__ import annotations

import importlib
import math
import warnings

import numpy as np
import pytest

from an8flower.ground.torchvision_shim import import_torchvision
from benchmark.experiments.evidence.metric_vectors import expected
from benchmark.metrics import (
    average_precision,
    pointing_game,
    relevance_mass,
    relevance_rank,
    roc_auc,
    top_k_intersection,
)


@pytest.fixture(scope="module")
def quantus():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_torchvision()
        pytest.importorskip("quantus")
        return importlib.import_module("quantus")


@pytest.fixture
def theirs(quantus):
    """Scores of one of its metrics, called as its users do; its own warnings are not ours."""

    def score(name, maps, masks, **parameters):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            metric = getattr(quantus, name)(disable_warnings=True, **parameters)
            images, labels = np.zeros((len(maps), 1, *maps.shape[1:]), np.float32), np.zeros(len(maps), int)
            scores = metric(
                model=None, x_batch=images, y_batch=labels, a_batch=maps[:, None], s_batch=masks[:, None]
            )
        return np.array(scores, float)

    return score


@pytest.fixture
def maps():
    """Positive, without ties."""
    rng = np.random.default_rng(0)
    return (rng.permuted(np.arange(1, 12 * 20 * 20 + 1)).reshape(12, 20, 20) / 4800).astype(np.float32)


@pytest.fixture
def masks():
    return np.random.default_rng(1).random((12, 20, 20)) < 0.1


@pytest.mark.parametrize(
    ("name", "ours", "parameters"),
    [
        ("PointingGame", pointing_game, {}),
        ("RelevanceMassAccuracy", relevance_mass, {}),
        ("AttributionLocalisation", relevance_mass, {}),
        ("RelevanceRankAccuracy", relevance_rank, {}),
        ("TopKIntersection", top_k_intersection, {"k": 6}),  # 1000 * 20 * 20 / 250**2 = 6.4
        ("AUC", roc_auc, {}),
    ],
)
def test_the_same_for_positive_maps_without_ties(name, ours, parameters, theirs, maps, masks):
    # It scales by the largest value, in float32, and adds 1e-9 to a sum.
    np.testing.assert_allclose(theirs(name, maps, masks, **parameters), ours(maps, masks), atol=1e-6)


def test_auc_is_the_same_with_ties_too(theirs, maps, masks):
    tied = np.round(maps * 4) - 2
    np.testing.assert_allclose(theirs("AUC", tied, masks), roc_auc(tied, masks), atol=1e-12)


def test_its_auc_is_of_the_roc_curve_and_not_average_precision(theirs, maps, masks):
    assert np.abs(theirs("AUC", maps, masks) - average_precision(maps, masks)).min() > 0.1


def test_a_batch_of_constants_is_refused_but_one_among_others_wins_its_pointing_game(theirs, maps, masks):
    maps[:3] = 1
    assert theirs("PointingGame", maps, masks)[:3].tolist() == [1, 1, 1]
    assert pointing_game(maps, masks)[:3].tolist() == [0, 0, 0]
    with pytest.raises(AssertionError, match="all equal to one"):
        theirs("PointingGame", np.ones_like(maps), masks)


def test_one_of_many_equal_maxima_in_the_mask_wins_its_pointing_game(theirs):
    heatmap, mask = np.zeros((1, 4, 4), np.float32), np.zeros((1, 4, 4), bool)
    heatmap[0, 0], mask[0, 0, 3] = 1, True
    assert theirs("PointingGame", heatmap, mask).tolist() == [1]
    assert pointing_game(heatmap, mask).tolist() == [0.25]


def test_an_empty_mask_wins_or_loses_its_pointing_game_but_is_not_nan(theirs, maps, masks):
    """Its scores are booleans, and NaN written into a boolean is True."""
    masks[3] = False
    assert theirs("PointingGame", maps, masks)[3] == 1
    assert math.isnan(pointing_game(maps, masks)[3])


@pytest.mark.parametrize("name", ["RelevanceRankAccuracy", "TopKIntersection"])
def test_where_ties_lie_matters_to_its_ranks(name, theirs):
    """A constant map says nothing of where the mask is, yet its score depends on where the mask is."""
    maps, mask = np.ones((3, 20, 20), np.float32), np.zeros((3, 20, 20), bool)
    mask[0, :2], mask[1, -2:], mask[2, 9] = True, True, True
    maps[2, 3, 4] = 2  # a batch that is constant as a whole is refused
    scores = theirs(name, maps, mask, **({"k": 6} if name == "TopKIntersection" else {}))
    assert scores[0] != scores[1]
    ours = relevance_rank if name == "RelevanceRankAccuracy" else top_k_intersection
    np.testing.assert_allclose(ours(maps, mask)[:2], 0.1)


def test_its_k_does_not_scale_with_the_map(theirs, maps, masks):
    """k = 1000 is 1.6 % of the dataset's images, 100 % of smaller ones less a few, and too much for these."""
    with pytest.raises(ValueError, match="1000 >= 400"):
        theirs("TopKIntersection", maps, masks)
    rng = np.random.default_rng(3)
    mask = rng.random((3, 32, 32)) < 0.1
    found = theirs("TopKIntersection", mask + rng.random(mask.shape) / 2, mask)
    np.testing.assert_allclose(found, mask.sum(axis=(1, 2)) / 1000)  # the best maps there are


def test_negatives_let_its_relevance_mass_leave_0_to_1(theirs):
    heatmap = np.array([[[4, 1], [-3, 0]]], np.float32)
    mask = np.array([[[True, False], [False, False]]])
    assert theirs("RelevanceMassAccuracy", heatmap, mask)[0] == pytest.approx(4 / 2)
    assert theirs("RelevanceMassAccuracy", np.array([[[-4, -1], [-3, 0]]], np.float32), mask)[0] == 0.5
    assert relevance_mass(heatmap, mask)[0] == pytest.approx(4 / 5)


def test_its_attribution_localisation_takes_absolute_values_unless_told_not_to(theirs):
    heatmap = np.array([[[4, 1], [-3, 0]]], np.float32)
    mask = np.array([[[False, False], [True, False]]])
    assert theirs("AttributionLocalisation", heatmap, mask)[0] == pytest.approx(3 / 8)
    assert relevance_mass(heatmap, mask)[0] == 0
    clipped = theirs("AttributionLocalisation", heatmap, mask, abs=False, positive_attributions=True)
    assert clipped[0] == 0


def test_a_map_of_zeros_is_nan_in_its_relevance_mass(theirs, maps, masks):
    maps[4] = 0
    assert np.isnan(theirs("RelevanceMassAccuracy", maps, masks)).nonzero()[0].tolist() == [4]
    assert relevance_mass(maps, masks)[4] == 0


def test_a_map_with_nan_is_scored_as_if_it_were_a_map(theirs, maps, masks):
    """NaN sorts last, and as scaled by NaN the whole map is NaN: the pixels are ranked by where they lie."""
    maps[:, 0, 0] = np.nan
    broken = theirs("RelevanceRankAccuracy", maps, masks)
    assert np.isfinite(broken).all() and broken.max() > 0
    assert relevance_rank(maps, masks).tolist() == [0] * len(masks)


def test_expected_values_of_ties_are_the_mean_of_its_answers_over_orders(theirs):
    """What it makes of ties depends on the order of pixels; over all orders its mean is ours."""
    rng = np.random.default_rng(2)
    heatmap, mask = rng.integers(0, 3, 25).astype(np.float32), rng.random(25) < 0.4
    orders = [rng.permutation(25) for _ in range(3000)]
    shuffled = np.stack([heatmap[o].reshape(5, 5) for o in orders])
    truth = np.stack([mask[o].reshape(5, 5) for o in orders])
    mean = theirs("RelevanceRankAccuracy", shuffled, truth).mean()
    ours = relevance_rank(shuffled, truth)
    np.testing.assert_allclose(ours, ours[0], atol=1e-12)
    assert mean == pytest.approx(
        expected("relevance_rank", heatmap.reshape(5, 5), mask.reshape(5, 5)), abs=0.01
    )
