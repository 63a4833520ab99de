"""What must hold of the localisation metrics whatever the map and the mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmark.experiments.evidence.metric_vectors import expected
from benchmark.metrics import metrics, pointing_game, pointing_game_15px
from benchmark.metrics.ranked import Ranked, ranked

SHAPE = (5, 6)
values = st.floats(-1e6, 1e6, width=32) | st.integers(-2, 2).map(float)  # ties are likely, too
heatmaps = arrays(np.float32, SHAPE, elements=values)
masks = arrays(np.bool_, SHAPE).filter(lambda mask: mask.any() and not mask.all())

EVERY = [name for name in metrics.names() if metrics.get(name).kind == "localisation"]
OF_ORDER = [
    "average_precision", "iou_auc_rank", "max_iou", "pointing_game", "pointing_game_15px", "relevance_rank",
    "roc_auc", "top_k_intersection",
]  # fmt: skip
OF_SCALED = [name for name in EVERY if name != "relevance_mass"]
OF_PLACES = ["energy_pointing_game", "pointing_game_15px"]
few = settings(max_examples=30)  # of each metric
CHANCE_IS_SHARE = ["pointing_game", "relevance_mass", "relevance_rank", "top_k_intersection"]


def score(name, heatmap, mask) -> float:
    return metrics.get(name).compute(heatmap[None], mask[None])[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
@few
@given(heatmap=heatmaps, mask=masks)
def test_is_its_definition_and_within_bounds(name, heatmap, mask):
    low, high = metrics.get(name).bounds
    assert low <= score(name, heatmap, mask) <= high
    assert score(name, heatmap, mask) == pytest.approx(expected(name, heatmap, mask), abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_ORDER)
@few
@given(heatmap=heatmaps, mask=masks)
def test_an_increasing_change_of_values_changes_nothing(name, heatmap, mask):
    """Places among the distinct values, and their cubes, are two such changes without rounding."""
    places = np.unique(heatmap, return_inverse=True)[1].reshape(SHAPE).astype(np.float32)
    assert score(name, places, mask) == score(name, heatmap, mask)
    assert score(name, places**3 - 7, mask) == score(name, heatmap, mask)


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_SCALED)
@few
@given(
    heatmap=arrays(np.float32, SHAPE, elements=st.integers(-1000, 1000).map(float)),
    mask=masks,
    factor=st.sampled_from([0.25, 2.0, 8.0]),
    offset=st.integers(-100, 100),
)
def test_scale_and_offset_do_not_matter_but_to_mass(name, heatmap, mask, factor, offset):
    changed = heatmap * np.float32(factor) + np.float32(offset)
    assert score(name, changed, mask) == pytest.approx(score(name, heatmap, mask), abs=1e-12)


@given(
    heatmap=arrays(np.float32, SHAPE, elements=st.integers(-1000, 1000).map(float)),
    mask=masks,
    factor=st.sampled_from([0.25, 2.0, 8.0]),
)
def test_scale_does_not_matter_to_mass(heatmap, mask, factor):
    assert score("relevance_mass", heatmap * np.float32(factor), mask) == score(
        "relevance_mass", heatmap, mask
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EVERY if name not in OF_PLACES])
@few
@given(heatmap=heatmaps, mask=masks, seed=st.integers(0, 1000))
def test_where_a_pixel_is_does_not_matter_but_to_two(name, heatmap, mask, seed):
    order = np.random.default_rng(seed).permutation(heatmap.size)
    moved = (one.ravel()[order].reshape(SHAPE) for one in (heatmap, mask))
    assert score(name, *moved) == pytest.approx(score(name, heatmap, mask), abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
@few
@given(heatmap=heatmaps, mask=masks)
def test_mirrored_images_score_the_same(name, heatmap, mask):
    for turn in (np.fliplr, np.flipud, np.transpose):
        assert score(name, turn(heatmap), turn(mask)) == pytest.approx(score(name, heatmap, mask), abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANCE_IS_SHARE)
@given(heatmap=heatmaps, mask=masks)
def test_chance_is_the_mask_s_share(name, heatmap, mask):
    """Over all cyclic shifts each pixel meets each place once, so the mean is the chance level itself."""
    assume(heatmap.max() > max(0, heatmap.min()))
    shifted = np.stack([np.roll(heatmap.ravel(), k).reshape(SHAPE) for k in range(heatmap.size)])
    every = metrics.get(name).compute(shifted, np.broadcast_to(mask, shifted.shape))
    assert every.mean() == pytest.approx(mask.mean(), abs=1e-9)


@pytest.mark.slow
@given(heatmap=heatmaps, mask=masks)
def test_a_map_and_its_negative_share_the_area_under_the_roc_curve(heatmap, mask):
    assert score("roc_auc", heatmap, mask) + score("roc_auc", -heatmap, mask) == pytest.approx(1, abs=1e-12)
    assert score("roc_auc", heatmap, mask) + score("roc_auc", heatmap, ~mask) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", ["iou_auc", "iou_auc_rank"])
def test_chance_of_the_areas_is_as_the_page_says(name):
    rng, share = np.random.default_rng(0), 0.1
    maps = rng.random((20, 112, 112))
    found = metrics.get(name).compute(maps, rng.random(maps.shape) < share)
    odds = share / (1 - share)
    assert found.mean() == pytest.approx(odds + odds**2 * np.log(share), abs=2e-3)


@given(heatmap=heatmaps, mask=masks)
def test_energy_is_of_the_box_alone(heatmap, mask):
    y, x = np.nonzero(mask)
    box = np.zeros_like(mask)
    box[y.min() : y.max() + 1, x.min() : x.max() + 1] = True
    assert score("energy_pointing_game", heatmap, mask) == score("energy_pointing_game", heatmap, box)


def test_tolerance_never_hurts():
    rng = np.random.default_rng(0)
    maps, truth = rng.random((50, 40, 40)), rng.random((50, 40, 40)) < 0.02
    exact, near = pointing_game(maps, truth), pointing_game_15px(maps, truth)
    assert (near >= exact).all() and near.sum() > exact.sum()


@given(heatmap=heatmaps, mask=masks)
def test_counts_of_a_ranked_map_are_counts(heatmap, mask):
    (one,) = ranked(heatmap[None], mask[None])
    assert isinstance(one, Ranked)
    assert one.values.tolist() == np.unique(heatmap).tolist()
    assert one.above.tolist() == [(heatmap >= value).sum() for value in one.values] + [0]
    assert one.hits.tolist() == [(mask & (heatmap >= value)).sum() for value in one.values] + [0]
    for k in range(heatmap.size + 1):
        assert 0 <= one.hits_among(k) <= min(k, one.part)
