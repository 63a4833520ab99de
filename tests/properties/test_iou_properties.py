"""What must hold of IoU-AUC whatever the map and the mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmark.metrics import iou_auc, iou_curve, max_iou

SHAPE = (5, 6)
values = st.floats(-1e6, 1e6, width=32)
heatmaps = arrays(np.float32, SHAPE, elements=values)
masks = arrays(np.bool_, SHAPE).filter(lambda mask: mask.any())


def auc(heatmap, mask) -> float:
    return iou_auc(heatmap[None], mask[None])[0]


@given(heatmaps, masks)
def test_between_nothing_and_the_best_threshold(heatmap, mask):
    assert 0 <= auc(heatmap, mask) <= max_iou(heatmap[None], mask[None])[0] + 1e-12 <= 1 + 1e-12
    curve = iou_curve(heatmap[None], mask[None])
    assert (curve >= 0).all() and (curve <= 1).all()


@given(masks, values, st.floats(0.5, 100, width=32))
def test_the_mask_at_any_two_levels_is_perfect(mask, low, step):
    levels = np.float32(low) + mask * np.float32(step)
    assume(len(np.unique(levels)) == 2)  # a full mask is constant, and a small step may be lost
    assert auc(levels, mask) == 1


@given(heatmaps, masks, st.randoms(use_true_random=False))
def test_where_a_pixel_is_does_not_matter(heatmap, mask, random):
    order = list(range(heatmap.size))
    random.shuffle(order)
    moved = heatmap.ravel()[order].reshape(SHAPE), mask.ravel()[order].reshape(SHAPE)
    assert auc(*moved) == pytest.approx(auc(heatmap, mask), abs=1e-12)


@given(st.lists(st.tuples(heatmaps, masks), min_size=1, max_size=5))
def test_flipping_the_batch_flips_the_scores(pairs):
    maps, truth = np.stack([h for h, _ in pairs]), np.stack([m for _, m in pairs])
    np.testing.assert_array_equal(iou_auc(maps, truth)[::-1], iou_auc(maps[::-1], truth[::-1]))


@given(heatmaps, masks, st.sampled_from([0.25, 0.5, 2.0, 1024.0]))
def test_scale_does_not_matter(heatmap, mask, factor):
    if np.abs(heatmap[heatmap != 0]).min(initial=1.0) > 1e-30:  # powers of two are exact but for underflow
        assert auc(heatmap * np.float32(factor), mask) == pytest.approx(auc(heatmap, mask), abs=1e-12)


@given(heatmaps, masks)
def test_more_weight_on_the_part_never_hurts(heatmap, mask):
    assume(not mask.all())
    heatmap[tuple(np.argwhere(~mask)[0])] = heatmap.min()  # raising the part must keep the minimum
    raised = heatmap.copy()
    raised[mask] = heatmap.max()
    assert auc(raised, mask) >= auc(heatmap, mask) - 1e-9
