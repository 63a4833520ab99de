"""Every localisation metric against exact fractions, scikit-learn, and the published vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from an8flower.ground.memo import sharing
from benchmark.experiments.evidence.metric_vectors import (
    CHECK,
    DEFINITIONS,
    cases,
    expected,
    to_json,
    vectors,
)
from benchmark.metrics import average_precision, iou_curve, metrics, pointing_game_15px, roc_auc
from benchmark.metrics import ranked as module
from benchmark.metrics.pointing import disc
from benchmark.metrics.relevance import top_k

PAGE = Path(__file__).parents[2] / "docs" / "metrics_vectors.json"
LOCALISATION = [name for name in metrics.names() if metrics.get(name).kind == "localisation"]


def compute(name, heatmap, mask) -> float:
    return metrics.get(name).compute(heatmap[None], mask[None])[0]


def case(kind: str, rng) -> np.ndarray:
    shape = (9, 12)
    return {
        "normal": lambda: rng.standard_normal(shape),
        "negative": lambda: -rng.random(shape) - 5,
        "ties": lambda: rng.integers(-1, 3, shape),
        "two values": lambda: rng.random(shape) < 0.5,
        "rectified": lambda: np.maximum(rng.standard_normal(shape) - 1, 0),
        "one peak": lambda: np.eye(*shape) * 1e30,
        "far from zero": lambda: 1e6 + rng.standard_normal(shape),
        "signed zeros": lambda: rng.choice([-0.0, 0.0, 1.0], shape),
        "subnormal": lambda: rng.random(shape) * 1e-40,
        "constant": lambda: np.full(shape, 2.5),
    }[kind]().astype(np.float32)  # fmt: skip


KINDS = [
    "normal", "negative", "ties", "two values", "rectified", "one peak", "far from zero", "signed zeros",
    "subnormal", "constant",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LOCALISATION)
def test_is_its_definition(name, kind):
    for seed, share in enumerate((0.02, 0.3, 0.9)):
        rng = np.random.default_rng(seed)
        heatmap, mask = case(kind, rng), rng.random((9, 12)) < share
        assert compute(name, heatmap, mask) == pytest.approx(expected(name, heatmap, mask), abs=1e-12)


def test_maps_that_are_shared_are_ranked_once_and_others_each_time(monkeypatch):
    made, rank = [], module._rank
    monkeypatch.setattr(module, "_rank", lambda *pair: made.append(pair) or rank(*pair))
    rng = np.random.default_rng(0)
    maps, masks = rng.random((3, 8, 8), np.float32), rng.random((3, 8, 8)) < 0.3
    with sharing(maps, masks):
        for name in LOCALISATION:
            metrics.get(name).compute(maps, masks)
        iou_curve(maps, masks)
        assert len(made) == 3
        roc_auc(maps.copy(), masks)  # another object may hold other values
        assert len(made) == 6


def test_every_metric_of_masks_has_a_definition():
    assert sorted(DEFINITIONS) == LOCALISATION


@pytest.mark.parametrize("kind", KINDS)
def test_curves_are_scikit_learns(kind):
    rng = np.random.default_rng(5)
    heatmap, mask = case(kind, rng), rng.random((9, 12)) < 0.2
    truth, score = mask.ravel(), heatmap.ravel()
    assert compute("average_precision", heatmap, mask) == pytest.approx(
        average_precision_score(truth, score), abs=1e-12
    )
    assert compute("roc_auc", heatmap, mask) == pytest.approx(roc_auc_score(truth, score), abs=1e-12)


def test_curves_are_scikit_learns_on_a_large_map():
    rng = np.random.default_rng(6)
    mask = rng.random((1, 250, 250)) < 0.05
    heatmap = (rng.integers(0, 5000, mask.shape) + 800 * mask).astype(np.float32)
    truth, score = mask.ravel(), heatmap.ravel()
    assert average_precision(heatmap, mask)[0] == pytest.approx(
        average_precision_score(truth, score), abs=1e-12
    )
    assert roc_auc(heatmap, mask)[0] == pytest.approx(roc_auc_score(truth, score), abs=1e-12)


@pytest.mark.parametrize("kind", ["one peak", "ties"])
@pytest.mark.parametrize("shape", [(40, 40), (25, 60), (112, 112)])
def test_tolerance_is_a_disc_around_every_pixel_of_the_mask(shape, kind):
    """Against all distances between peaks and mask; masks at the border, too."""
    rng = np.random.default_rng(7)
    for _ in range(20):
        mask, heatmap = np.zeros(shape, bool), np.zeros(shape, np.float32)
        mask[tuple(rng.integers(0, shape, (3, 2)).T)] = True
        heatmap[tuple(rng.integers(0, shape, (1 if kind == "one peak" else 9, 2)).T)] = 1
        apart = np.argwhere(heatmap)[:, None] - np.argwhere(mask)[None]
        near = ((apart**2).sum(axis=2) * 250**2 <= 15**2 * heatmap.size).any(axis=1)
        assert pointing_game_15px(heatmap[None], mask[None])[0] == pytest.approx(near.mean(), abs=1e-12)


def test_pixel_counts_are_those_of_the_dataset_s_images():
    assert top_k(250 * 250) == 1000 and top_k(112 * 112) == 201 and top_k(4) == 1
    rows, reach = disc(250, 250)
    assert rows.tolist() == list(range(-15, 16)) and reach[0] == 0 and reach[15] == 15 and reach[15 + 9] == 12


def test_the_published_vectors_are_the_definitions():
    assert PAGE.read_text() == to_json(vectors())


@pytest.mark.parametrize("published", json.loads(PAGE.read_text())["cases"], ids=lambda one: one["name"])
def test_published_vectors_are_met(published):
    heatmap, mask = np.array(published["heatmap"], np.float32), np.array(published["mask"], bool)
    assert sorted(published["expected"]) == LOCALISATION
    for name, score in published["expected"].items():
        np.testing.assert_allclose(
            compute(name, heatmap, mask), np.array(score, float), atol=1e-12, err_msg=name
        )


def test_a_fault_in_a_metric_would_be_seen_in_the_vectors():
    """Each of these is a plausible other reading; some published case tells it apart."""
    readings = {
        "pointing_game": lambda h, m: float(m.ravel()[h.argmax()]),
        "relevance_mass": lambda h, m: np.abs(h)[m].sum() / np.abs(h).sum(),
        "relevance_rank": lambda h, m: m.ravel()[np.argsort(-h, axis=None)[: m.sum()]].mean(),
        "energy_pointing_game": lambda h, m: (h - h.min())[m].sum() / (h - h.min()).sum(),
        "iou_auc": lambda h, m: np.mean([((h >= t) & m).sum() / ((h >= t) | m).sum() for t in np.unique(h)]),
    }
    for name, other in readings.items():
        usable = [(h, m) for _, h, m in cases() if m.any() and np.isfinite(h).all() and np.ptp(h)]
        assert any(abs(other(h, m) - expected(name, h, m)) > 1e-3 for h, m in usable), name


def test_the_five_lines_that_check_ones_own_code_run(monkeypatch):
    monkeypatch.chdir(PAGE.parent)
    names = {"my_roc_auc": lambda heatmap, mask: compute("roc_auc", heatmap, mask)}
    with np.errstate(all="raise"):
        exec("\n".join(CHECK), names)
    names["my_roc_auc"] = lambda heatmap, mask: 0.5
    with pytest.raises(AssertionError, match="the mask itself"):
        exec("\n".join(CHECK), names)


def test_the_page_speaks_of_every_metric_and_shows_the_five_lines():
    page = PAGE.with_name("metrics.md").read_text()
    assert [name for name in metrics.names() if f"| `{name}` |" not in page] == []
    # A formatter of the page may set other quotes and blank lines.
    assert "\n".join(CHECK) in page.replace("\n\n", "\n").replace('"', "'")
    assert f"holds {len(list(cases()))} small maps" in page


def test_the_page_s_metric_of_one_s_own_works_and_has_the_special_cases():
    page = PAGE.with_name("metrics.md").read_text()
    code = page.partition("## Your own metric")[2].partition("```python\n")[2].partition("```")[0]
    names: dict = {}
    exec(code.partition("metrics.add")[0], names)
    masks = np.arange(18).reshape(3, 2, 3) % 2 == 0
    maps = masks.astype(np.float32)
    masks[1], maps[2, 0, 0] = False, np.nan
    np.testing.assert_array_equal(names["best_dice"](maps, masks), [1, np.nan, 0])
