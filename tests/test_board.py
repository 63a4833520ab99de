"""The board built from records alone: order, intervals, comparisons, and the comparison with the paper."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark import leaderboard, store
from benchmark.board.paper import TABLE_1, compare_with_paper
from benchmark.board.terminal import to_table
from benchmark.board.text import summary, to_csv, to_json, to_markdown, write_board
from benchmark.record import Record
from benchmark.store import Cell

VIEWS = 8  # a fold
# What the synthetic methods score on average; the first seven in the paper's order.
MEANS = {
    "vebi": 0.30, "deconv_gb": 0.26, "guided_grad_cam": 0.22, "guided_grad_cam_pp": 0.21, "grad_cam": 0.16,
    "upsampled_activations": 0.15, "grad_cam_pp": 0.12, "vebi_twin": 0.30, "random": 0.03, "centre": 0.05,
    "oracle": 1.0,
}  # fmt: skip
SUBMISSION = {
    "status": "self-reported", "sha256": "0" * 64, "kind": "heatmaps", "method": "theirs", "authors": ["A"],
    "paper": "none", "code": "none", "commit": "none",
}  # fmt: skip
ROLE = {"random": "floor", "centre": "floor", "oracle": "ceiling"}


def record_of(name: str, fold: int, by_view: np.ndarray, **changes: Any) -> Record:
    """A record as `measuring` writes it, with the given mean score in each viewpoint."""
    views = [fold + 1 + 5 * k for k in range(len(by_view))]
    identity = {"dataset_digest": "0" * 64, "weights_sha256": str(fold) * 64, "explainer": name}
    return Record(**{
        "variant": "single-6c", "model": "an8net", "seed": 0, "fold": fold, "explainer": name,
        "key": store.key(identity), "identity": identity, "metrics": {"iou_auc": "0" * 64},
        "role": ROLE.get(name, "method"), "source": "", "library": "", "reduction": "", "resize": "",
        "layer": None, "status": "ok", "cause": None, "reason": None, "images": 150 * len(by_view),
        "invalid": 0, "undefined": 0, "accuracy": 1.0, "scores": {"iou_auc": float(by_view.mean())},
        "views": {
            "view": views, "images": [150] * len(by_view), "factors": {},
            "scores": {"iou_auc": by_view.tolist()},
        },
        "curve": [0.5] * 100, "cost": {"ms_per_image": 1.0}, "timing": {}, "command": "", "finished": "",
        "host": {}, "versions": {},
    } | changes)  # fmt: skip


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Eleven rows on five folds; views differ, methods differ, and vebi_twin is vebi but for noise."""
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 0.02, (5, VIEWS))
    for name, mean in MEANS.items():
        for fold in range(5):
            noise = rng.normal(0, 0.004, VIEWS) if ROLE.get(name) != "ceiling" else 0
            by_view = mean + noise + (hard[fold] if name not in ROLE else 0)
            cell = Cell(tmp_path, "single-6c", "an8net", name, fold)
            store.write(cell, record_of(name, fold, np.broadcast_to(by_view, VIEWS)), None)
    return tmp_path


def test_methods_are_ranked_and_floors_and_ceilings_stand_apart(results):
    rows = leaderboard(results, "single-6c").rows
    assert rows["role"].tolist() == ["method"] * 8 + ["floor"] * 2 + ["ceiling"]
    assert rows["rank"].tolist()[:8] == list(range(1, 9)) and rows["rank"][8:].isna().all()
    assert rows["iou_auc"][:8].is_monotonic_decreasing


def test_intervals_hold_the_mean_and_differences_are_paired(results):
    rows = leaderboard(results, "single-6c").rows.set_index("explainer")
    assert (rows["iou_auc_low"] <= rows["iou_auc"]).all() and (rows["iou_auc"] <= rows["iou_auc_high"]).all()
    # Views differ by 2 points, which widens the interval; a pair's difference does not see it.
    assert rows.loc["vebi", "iou_auc_high"] - rows.loc["vebi", "iou_auc_low"] > 0.8
    assert rows.loc["deconv_gb", "p_holm"] < 0.01
    best, twin = sorted(("vebi", "vebi_twin"), key=lambda name: rows.loc[name, "rank"])
    assert rows.loc[best, "group"] == "a" and np.isnan(rows.loc[best, "p_holm"])
    assert rows.loc[twin, "p_holm"] > 0.05 and rows.loc[twin, "group"] == "a"
    assert rows.loc["deconv_gb", "group"] == "b"
    assert (rows.loc[["random", "oracle"], "group"] == "").all()


def test_normalised_is_the_way_from_the_best_floor_to_the_best_ceiling(results):
    rows = leaderboard(results, "single-6c").rows.set_index("explainer")
    floor, score = rows.loc["centre", "iou_auc"], rows.loc["vebi", "iou_auc"]
    assert rows.loc["vebi", "normalised"] == pytest.approx(100 * (score - floor) / (100 - floor))
    assert rows.loc["centre", "normalised"] == pytest.approx(0)
    assert rows.loc["random", "normalised"] < 0


def test_comparison_with_the_paper(results):
    board = leaderboard(results, "single-6c")
    assert board.paper.count == 7 and board.paper.rho == pytest.approx(1)
    assert board.paper.rows["explainer"].tolist() == list(TABLE_1)
    assert board.first.attrs["best"] == "vebi" and board.first["p_holm"].max() < 0.05
    assert board.first.loc["deconv_gb", "difference"] == pytest.approx(4, abs=0.5)
    assert any("best of the paper's methods: vebi" in line for line in summary(board))


def test_table_1_is_the_papers():
    figures = pd.DataFrame({name: one[1]["double-12c"] for name, one in TABLE_1.items()}).T
    assert figures[0].sum() == pytest.approx(23.2 + 21.9 + 19.4 + 19.7 + 14.8 + 16.1 + 14.6)
    rows = pd.DataFrame({"explainer": list(TABLE_1), "iou_auc": range(7), "iou_auc_std": 0.1})
    assert compare_with_paper(rows, "part-2c") is None
    # Our order turned round: -1 on single-6c by definition.
    assert compare_with_paper(rows, "single-6c").rho == pytest.approx(-1)


def test_friedman_and_stability(results):
    board = leaderboard(results, "single-6c")
    assert board.friedman.p < 1e-6 and len(board.friedman.ranks) == 8
    folds = board.stability.set_index("over").loc["folds"]
    assert folds["orders"] == 5 and folds["tau_least"] > 0.8


def test_one_fold_of_one_view_has_no_statistics(tmp_path):
    for name in ("vebi", "grad_cam"):
        cell = Cell(tmp_path, "single-6c", "an8net", name, 0)
        store.write(cell, record_of(name, 0, np.array([MEANS[name]])), None)
    board = leaderboard(tmp_path, "single-6c")
    assert board.rows["iou_auc_low"].isna().all() and board.friedman is None and board.first.empty
    assert "| 1 | vebi | method |" in to_markdown(board, "x")


def test_records_of_schema_2_are_shown_without_intervals(results):
    path = Cell(results, "single-6c", "an8net", "grad_cam", 0).record_path
    written = json.loads(path.read_text())
    old = {name: value for name, value in written.items() if name not in ("views", "digest")}
    path.write_text(json.dumps(old | {"schema_version": 2}))
    rows = leaderboard(results, "single-6c").rows.set_index("explainer")
    assert np.isnan(rows.loc["grad_cam", "iou_auc_low"]) and rows.loc["grad_cam", "iou_auc"] > 15
    assert rows.loc["vebi", "iou_auc_low"] > 25


def test_failed_and_submitted_rows_say_so(results):
    cell = Cell(results, "single-6c", "an8net", "broken", 0)
    failed = record_of(
        "broken", 0, np.zeros(8), status="failed", cause="raised", reason="no | luck", views=None
    )
    store.write(cell, failed, None)
    cell = Cell(results, "single-6c", "an8net", "theirs", 0)
    theirs = record_of("theirs", 0, np.full(8, 0.2), submission=SUBMISSION, views=None)
    store.write(cell, replace(theirs, accuracy=None), None)
    board = leaderboard(results, "single-6c")
    rows = board.rows.set_index("explainer")
    assert rows.loc["broken", "failed"] == "fold 0: no | luck" and pd.isna(rows.loc["broken", "rank"])
    assert rows.loc["theirs", "origin"] == "self-reported"
    text = to_markdown(board, "x")
    assert "Failed: `broken`: fold 0: no \\| luck" in text and "| self-reported |" in text


@pytest.mark.slow
def test_files(results):
    board = leaderboard(results, "single-6c")
    written = write_board(board, results, "an8flower leaderboard")
    assert [path.name for path in written] == ["leaderboard.csv", "leaderboard.md", "leaderboard.json"]
    content = json.loads(written[2].read_text())
    assert content["rows"][0]["iou_auc"] == pytest.approx(board.rows["iou_auc"][0])
    assert content["table_1"]["first"] == "vebi" and content["rows"][8]["p_holm"] is None
    assert content == json.loads(to_json(board, "an8flower leaderboard"))
    assert to_csv(board) == written[0].read_text()
    # The same records give the same board, resampling included.
    again = leaderboard(results, "single-6c")
    assert to_json(again, "x") == to_json(board, "x")


def test_the_terminal_has_room(results):
    from io import StringIO

    from rich.console import Console

    page = Console(file=StringIO(), width=80)
    page.print(to_table(leaderboard(results, "single-6c")))
    shown = page.file.getvalue()
    assert "guided_grad_cam_pp" in shown and "…" not in shown and shown.count("100.0 ± 0.0") == 1
