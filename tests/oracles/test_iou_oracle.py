"""IoU-AUC against the definition, written as slowly and plainly as it can be."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from benchmark.metrics import iou_auc, iou_curve, max_iou
from benchmark.metrics.iou import CURVE_THRESHOLDS, invalid


def scaled(heatmap):
    heatmap = heatmap.astype(np.float64)
    spread = heatmap.max() - heatmap.min()
    return (heatmap - heatmap.min()) / spread if spread else np.zeros_like(heatmap)


def iou_at(heatmap, mask, threshold) -> float:
    above = scaled(heatmap) >= threshold
    return np.count_nonzero(above & mask) / np.count_nonzero(above | mask)


def slow_auc(heatmap, mask) -> float:
    """Protocol section 5, item 3: the sum over all distinct values."""
    values = np.unique(scaled(heatmap))
    return sum((b - a) * iou_at(heatmap, mask, b) for a, b in pairwise(values))


def case(kind: str, rng) -> np.ndarray:
    shape = (10, 13)
    return {
        "normal": lambda: rng.standard_normal(shape),
        "negative": lambda: -rng.random(shape) - 5,
        "ties": lambda: rng.integers(0, 4, shape).astype(float),
        "two values": lambda: (rng.random(shape) < 0.5).astype(float),
        "one peak": lambda: np.eye(10, 13) * 1e30,
        "signed zeros": lambda: rng.choice([-0.0, 0.0, 1.0], shape),
        "tiny": lambda: rng.random(shape) * 1e-30,
        "subnormal": lambda: rng.random(shape) * 1e-40,
    }[kind]().astype(np.float32)


KINDS = ["normal", "negative", "ties", "two values", "one peak", "signed zeros", "tiny", "subnormal"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_area_curve_and_maximum_are_the_definition(kind, seed):
    rng = np.random.default_rng(seed)
    heatmap, mask = case(kind, rng), rng.random((10, 13)) < 0.3
    assert iou_auc(heatmap[None], mask[None])[0] == pytest.approx(slow_auc(heatmap, mask), abs=1e-12)
    curve = [iou_at(heatmap, mask, t) for t in CURVE_THRESHOLDS]
    np.testing.assert_allclose(iou_curve(heatmap[None], mask[None])[0], curve, atol=1e-12)
    best = max(iou_at(heatmap, mask, t) for t in np.unique(scaled(heatmap))[1:])
    assert max_iou(heatmap[None], mask[None])[0] == pytest.approx(best, abs=1e-12)


def test_area_is_the_limit_of_ever_finer_thresholds():
    rng = np.random.default_rng(0)
    heatmap, mask = rng.random((20, 20)).astype(np.float32), rng.random((20, 20)) < 0.2
    fine = np.mean([iou_at(heatmap, mask, t) for t in (np.arange(20_000) + 0.5) / 20_000])
    assert iou_auc(heatmap[None], mask[None])[0] == pytest.approx(fine, abs=1e-4)


def test_a_small_case_by_hand():
    # Values 0, 1/4, 1/2, 1; the mask is the two highest but for one swap.
    heatmap = np.array([[0.0, 1.0], [2.0, 4.0]])
    mask = np.array([[False, True], [False, True]])
    expected = 0.25 * 2 / 3 + 0.25 * 1 / 3 + 0.5 * 1 / 2
    assert iou_auc(heatmap[None], mask[None])[0] == pytest.approx(expected)


MASK = np.eye(4, dtype=bool)[None]


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5])
def test_constant_maps_score_nothing(value):
    constant = np.full((1, 4, 4), value)
    assert iou_auc(constant, MASK)[0] == 0 and max_iou(constant, MASK)[0] == 0
    assert not iou_curve(constant, MASK).any()
    assert iou_auc(constant, np.ones_like(MASK))[0] == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_invalid_maps_score_nothing_and_are_told(value):
    broken = np.eye(4, dtype=np.float32)[None].repeat(2, axis=0)
    broken[0, 1, 2] = value
    masks = MASK.repeat(2, axis=0)
    assert iou_auc(broken, masks).tolist() == [0, 1]
    assert max_iou(broken, masks).tolist() == [0, 1]
    assert not iou_curve(broken, masks)[0].any()
    assert invalid(broken).tolist() == [True, False]


def test_empty_mask_is_nan_and_full_mask_is_not():
    heatmap = np.arange(16.0).reshape(1, 4, 4)
    assert np.isnan(iou_auc(heatmap, np.zeros_like(MASK))[0])
    assert np.isnan(iou_curve(heatmap, np.zeros_like(MASK))).all()
    # With everything part, IoU(t) is the share of pixels at or above t.
    expected = np.mean([1 - k / 16 for k in range(1, 16)])
    assert iou_auc(heatmap, np.ones_like(MASK))[0] == pytest.approx(expected)


def test_no_images_give_no_scores():
    nothing = np.zeros((0, 4, 4))
    assert iou_auc(nothing, nothing).shape == (0,) and iou_curve(nothing, nothing).shape == (0, 100)
