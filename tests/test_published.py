"""The published scores that come with the package, and what is said of them next to a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark import leaderboard
from benchmark.board import published as module
from benchmark.board.published import collected, published
from benchmark.board.terminal import to_table
from benchmark.board.text import to_csv

RESULTS = Path(__file__).parents[1] / "results"


@pytest.fixture(scope="module")
def board():
    return leaderboard(RESULTS, "single-6c")


def with_models(board, **changes):
    models = replace(board.source.models, **changes)
    return replace(board, source=replace(board.source, models=models))


@pytest.mark.slow
def test_they_are_those_of_the_results_folder():
    kept = json.loads(Path(module.__file__).with_name(module.FILE).read_text())
    assert kept == collected(RESULTS)
    assert set(kept["boards"]) >= {"single-6c", "double-12c", "part-2c"}


def test_the_line_says_what_is_the_same(board):
    assert published(board).relation.endswith("on the same images and the same weights (equal digests)")
    weights = dict(board.source.models.weights) | {(2, 0): "f" * 64, (4, 0): "e" * 64}
    other = published(with_models(board, weights=weights)).relation
    assert "on the same images (equal digests); its models of folds 2, 4 differ" in other
    other = published(with_models(board, dataset_digest="f" * 64)).relation
    assert "with the same protocol; your images and trained models are not byte-identical" in other


def test_only_what_is_measured_alike_is_compared(board):
    assert published(board).scores["grad_cam"][0] == pytest.approx(
        board.rows.set_index("explainer")["iou_auc"]["grad_cam"], abs=1e-3
    )
    assert published(with_models(board, scheme="blocks")) is None
    assert published(with_models(board, protocol_version=2)) is None
    assert published(replace(board, certified_only=True)) is None
    assert published(replace(board, model="mnistnet")) is None
    fewer = board.rows.assign(images=board.rows["images"].where(board.rows["explainer"] != "vebi", 1200))
    scores = published(replace(board, rows=fewer)).scores
    assert "vebi" not in scores and "grad_cam" in scores
    size = leaderboard(RESULTS / "size", "single-6c")
    assert published(size) is None


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_names_are_broken_after_a_sign_however_narrow_the_terminal(board, width, capsys):
    from rich.console import Console

    table = to_table(board, width, published=published(board))
    Console(width=width).print(table)
    printed = capsys.readouterr().out.splitlines()
    assert max(map(len, printed)) <= width
    headings = printed[1].split()
    assert ("published" in headings, "ms/image" in headings) == (width >= 80, width >= 100)
    (names,) = [column for column in table.columns if column.header == "explainer"]
    shown = [str(cell).split("\n") for cell in names.cells]
    assert ["".join(lines) for lines in shown] == list(board.rows["explainer"])
    cut = [line for lines in shown for line in lines[:-1] if line[-1] not in "@?&:_=./"]
    assert cut == [] or width < 80
    assert "published" not in to_csv(board).splitlines()[0]
