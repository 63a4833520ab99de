"""What every registered metric of heatmaps and masks must do."""

from __future__ import annotations

import numpy as np
import pytest

from an8flower.ground.memo import sharing
from benchmark.metrics import metrics

LOCALISATION = [name for name in metrics.names() if metrics.get(name).kind == "localisation"]


@pytest.fixture(params=LOCALISATION)
def metric(request):
    return metrics.get(request.param)


@pytest.fixture
def maps():
    return np.random.default_rng(0).standard_normal((6, 9, 11)).astype(np.float32)


@pytest.fixture
def masks():
    return np.random.default_rng(1).random((6, 9, 11)) < 0.3


def test_one_float64_an_image_within_bounds(metric, maps, masks):
    scores = metric.compute(maps, masks)
    assert scores.shape == (6,) and scores.dtype == np.float64
    assert (scores >= metric.bounds[0]).all() and (scores <= metric.bounds[1]).all()
    assert metric.source and metric.compute.__doc__
    assert metric.name == metric.compute.__name__


def test_the_mask_itself_scores_best(metric, masks):
    best = metric.bounds[1] if metric.higher_is_better else metric.bounds[0]
    np.testing.assert_allclose(metric.compute(masks.astype(np.float32), masks), best, atol=1e-12)


def test_order_and_company_do_not_matter(metric, maps, masks):
    scores = metric.compute(maps, masks)
    np.testing.assert_array_equal(metric.compute(maps[::-1], masks[::-1]), scores[::-1])
    np.testing.assert_array_equal(
        np.concatenate([metric.compute(m[None], s[None]) for m, s in zip(maps, masks, strict=True)]), scores
    )


def test_inputs_are_left_alone(metric, maps, masks):
    kept = maps.copy(), masks.copy()
    maps.setflags(write=False)
    masks.setflags(write=False)
    metric.compute(maps, masks)
    np.testing.assert_array_equal(maps, kept[0])
    np.testing.assert_array_equal(masks, kept[1])


def test_empty_mask_is_nan_not_a_score(metric, maps, masks):
    masks[2] = False
    assert np.isnan(metric.compute(maps, masks)).tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_invalid_map_scores_0_and_leaves_the_others_alone(metric, maps, masks, value):
    scores = metric.compute(maps, masks)
    maps[2, 4, 5] = value
    scores[2] = 0
    np.testing.assert_array_equal(metric.compute(maps, masks), scores)


def test_a_map_too_large_for_float32_is_invalid(metric, maps, masks):
    maps = maps.astype(np.float64)
    maps[1, 0, 0] = 1e300
    assert metric.compute(maps, masks)[1] == 0


def test_a_constant_map_has_a_score(metric, masks):
    for value in (0.0, -2.0, 3.0):
        scores = metric.compute(np.full(masks.shape, value), masks)
        assert np.isfinite(scores).all() and (scores <= 0.5).all()


def test_no_images_give_no_scores(metric, maps, masks):
    scores = metric.compute(maps[:0], masks[:0])
    assert scores.shape == (0,) and scores.dtype == np.float64


def test_company_of_other_metrics_does_not_matter(metric, maps, masks):
    alone = metric.compute(maps, masks)
    with sharing(maps, masks):
        for name in LOCALISATION:
            metrics.get(name).compute(maps, masks)
        np.testing.assert_array_equal(metric.compute(maps, masks), alone)


@pytest.mark.parametrize("shape", [(9, 11), (5, 9, 11), (6, 9, 10)])
def test_wrong_shapes_are_refused_with_both_named(metric, maps, shape):
    with pytest.raises(
        ValueError, match=r"\(6, 9, 11\).*" + str(shape).replace("(", r"\(").replace(")", r"\)")
    ):
        metric.compute(maps, np.ones(shape, bool))
