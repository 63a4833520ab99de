"""The measurements in benchmark.experiments, on very small problems: they run, and compute what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from rich.table import Table

from an8flower import An8Flower
from an8flower.drawing.renderer import Frame
from an8flower.protocol import PART_IDS
from benchmark.experiments.evidence import calibration, cheating, metric_vectors, reliability
from benchmark.experiments.speed import generation, lasso, links, running, scale
from benchmark.experiments.speed import metrics as metrics_speed
from benchmark.metrics import metrics
from explainers.vebi.lasso import mu_lasso


@pytest.fixture
def called_once(monkeypatch):
    """Call what is timed once, and say that ours takes one second and the other two."""

    def medians(ours, other, repeats):
        ours(), other()
        return 1.0, 2.0

    for module in (links, generation, metrics_speed, lasso):
        monkeypatch.setattr(module, "medians", medians)


def rows(table):
    """The cells of a table, by row."""
    return list(zip(*(column.cells for column in table.columns), strict=True))


def blank():
    """A table of five columns, as the measurements fill it."""
    return Table("what", "rate", "alternative", "its rate", "ratio")


class TestSpeed:
    """benchmark.experiments.speed."""

    def test_two_actions_alternate_and_the_first_turn_does_not_count(self, monkeypatch):
        clock = iter([0, 100, 0, 200, 0, 1, 0, 2, 0, 3, 0, 6])  # begin and end of each call
        monkeypatch.setattr(links.time, "perf_counter", lambda: next(clock))
        calls = []
        assert links.medians(lambda: calls.append("a"), lambda: calls.append("b"), 2) == (2, 4)
        assert calls == ["a", "b"] * 3

    def test_each_step_of_the_benchmark(self, trained, data, tiny, called_once, monkeypatch):
        monkeypatch.setattr(links, "BATCH", 4)
        dataset, table = An8Flower(data, tiny.name, size_px=112), blank()
        links._explaining(table, trained.model, dataset)  # compares the maps with captum's
        links._backpropagating(table, trained.model, dataset)
        links._scoring(table, trained.model, dataset)
        assert [row[0].split(",")[0].strip() for row in rows(table)] == [
            "Grad-CAM", "guided backprop", "with the stride fix", "vebi", "vebi", "exact IoU-AUC",
        ]  # fmt: skip
        assert {row[4] for row in rows(table)} == {"2.00x"}

    def test_a_loop_over_thresholds_approximates_the_exact_score(self):
        maps, masks = metrics_speed.simulated(3, rng=np.random.default_rng(0))
        exact = metrics.get("iou_auc").compute(maps, masks)
        loop = [links.threshold_loop(heatmap, mask) for heatmap, mask in zip(maps, masks, strict=True)]
        np.testing.assert_allclose(loop, exact, atol=0.01)

    def test_derivatives_are_written_as_generation_does(self, tmp_path):
        part_ids = np.zeros((300, 300), np.uint8)
        part_ids[100:200, 100:200] = PART_IDS["petals"]
        frame = Frame(np.full((300, 300, 3), 9, np.uint8), part_ids)
        links.write_derivatives([frame], tmp_path)
        links.write_bare([frame])
        assert len(list(tmp_path.glob("0_*.png"))) == 25 * 3

    def test_metrics_alone_and_together(self, called_once):
        table = blank()
        metrics_speed._each(table, *metrics_speed.simulated(2, rng=np.random.default_rng(0)))
        assert len(rows(table)) == len(metrics_speed._localisation())
        maps, masks = metrics_speed.simulated(2, rng=np.random.default_rng(0))
        assert masks.sum(axis=(1, 2)).tolist() == [900, 900]
        metrics_speed.together(["iou_auc", "roc_auc"], maps, masks)

    def test_the_lasso_of_simulated_responses_reaches_its_gap(self):
        labels = np.arange(12) % 2
        x, of_class = lasso.synthetic((3, 3, 4), labels, 2, np.random.default_rng(0))
        np.testing.assert_allclose(x.sum(axis=0), 3)  # in each of three layers, shares of 1
        weights = mu_lasso(x, of_class, 2.0, 1e-8).weights
        assert lasso.gaps(x, of_class, weights, 2.0).max() < 1e-8

    def test_generation_of_all_variants_is_added_up(self, tmp_path, monkeypatch):
        def drawn(folder, name, workers):
            (folder / name).mkdir()
            (folder / name / "image.png").write_bytes(bytes(2**20))
            return SimpleNamespace(table=pd.DataFrame({"kind": ["frame"] * 2 + ["image"] * 50}))

        monkeypatch.setattr(generation, "generate", drawn)
        table = generation._whole(tmp_path)
        assert [row[0] for row in rows(table)] == [*generation.NAMES, "together"]
        assert rows(table)[-1][1:3] == ("6", "150") and rows(table)[-1][-1] == "3"

    def test_a_run_with_two_workers_with_one_and_again(self, monkeypatch, capsys):
        commands = []
        monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command))
        monkeypatch.setattr(sys, "argv", ["running"])
        running.main()
        workers = [command[command.index("--workers") + 1] for command in commands]
        results = [command[command.index("--results") + 1] for command in commands]
        assert workers == ["2", "1", "2"] and results[0] == results[2] != results[1]
        assert "1.00x" in capsys.readouterr().out

    def test_cells_are_written_looked_up_and_read(self, tmp_path):
        asked = Namespace(cells=10, images=8, workers=0, scheduler=None)
        stages = scale._measured(tmp_path, asked)
        assert [what.split(",")[0] for what, _ in stages] == [
            "written", "looked up", "read", "one board of 1 methods",
        ]  # fmt: skip
        assert len(list(tmp_path.rglob("fold*.json"))) == len(list(tmp_path.rglob("fold*.parquet"))) == 10


class TestEvidence:
    """benchmark.experiments.evidence."""

    def test_boards_without_differences_are_simulated(self):
        found = calibration.simulate(2, rng=np.random.default_rng(0), resamples=49)
        assert (found.boards, found.intervals) == (2, 2 * calibration.METHODS)
        assert 0 <= found.covered <= found.intervals and max(found.alarms, found.split) <= 2

    def test_a_patch_has_the_colour_of_its_class_and_leaves_the_plant(self):
        part_ids = np.zeros((1, 50, 50), np.uint8)
        part_ids[0, 0, 0] = PART_IDS["stem"]
        where = cheating.patch(part_ids)
        assert where.sum() == 8 * 8 - 1  # 40 of 250 pixels are 8 of 50
        images = torch.full((1, 3, 50, 50), 0.5)
        red, cyan = (cheating.repainted(images, where, torch.tensor([k]), 2)[0] for k in (0, 1))
        assert red[:, 1, 1].tolist() == [1, 0, 0] and cyan[:, 1, 1].tolist() == [0, 1, 1]
        assert red[:, 0, 0].tolist() == red[:, 9, 9].tolist() == [0.5] * 3

    def test_vectors_of_the_metrics_are_those_of_the_metrics(self):
        name, heatmap, mask = next(case for case in metric_vectors.cases() if case[0] == "signed")
        for metric in metric_vectors.DEFINITIONS:
            (score,) = metrics.get(metric).compute(heatmap[None], mask[None])
            assert score == pytest.approx(metric_vectors.expected(metric, heatmap, mask), abs=1e-12), name

    def test_a_victim_is_the_run_or_a_worker_of_it(self):
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
            rng = np.random.default_rng(0)
            victims = {reliability._victim(os.getpid(), rng) for _ in range(50)}
            child.communicate()
        assert {("run", os.getpid()), ("worker", child.pid)} <= victims
