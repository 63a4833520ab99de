"""From nothing to a leaderboard, as a user does it, on a few views of single-6c."""

from __future__ import annotations

import json
import subprocess
import sys

import pandas as pd
import pytest
from skimage.io import imread
from waiting import HANG_S

from benchmark import leaderboard


def run(folder, *more):
    command = [sys.executable, "-m", "benchmark", "run", "--viewpoints", "1,2,3,4,5", "--folds", "0", *more]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=HANG_S)


@pytest.mark.slow
def test_nothing_to_a_leaderboard_and_again(tmp_path):
    first = run(tmp_path)
    assert "grad_cam" in first.stdout and "oracle" in first.stdout
    assert "generate single-6c: 30/30 frames" in first.stderr  # plain progress lines, no bar
    rows = leaderboard(tmp_path / "runs", "single-6c").rows.set_index("explainer")
    assert rows["folds"].eq(1).all() and rows["images"].eq(150).all() and rows["invalid"].eq(0).all()
    score = rows["iou_auc"]
    assert score["random"] < score["grad_cam"] < score["oracle"] == 100
    for picture in ("contact_sheet.png", "an8net/curves.png", "an8net/heatmaps.png"):
        assert min(imread(tmp_path / "runs/single-6c" / picture).shape[:2]) > 300

    records = sorted((tmp_path / "runs").rglob("fold*.json"))
    stamps = [
        path.stat().st_mtime_ns for path in [*records, *sorted((tmp_path / "checkpoints").rglob("*.*"))]
    ]
    again = json.loads(run(tmp_path, "--json").stdout)
    stamps_after = [
        path.stat().st_mtime_ns for path in [*records, *sorted((tmp_path / "checkpoints").rglob("*.*"))]
    ]
    assert stamps == stamps_after  # everything done was re-used
    assert {row["explainer"] for row in again["rows"]} == set(rows.index)
    csv = pd.read_csv(tmp_path / "runs/single-6c/an8net/leaderboard.csv").set_index("explainer")
    assert abs(csv["iou_auc"] - score).max() < 1e-3
    assert all((tmp_path / path).is_file() for path in again["files"])
