"""The comparison of speeds is one of equal maps."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

import explainers
from benchmark.board.paper import TABLE_1
from benchmark.experiments.speed.methods import Comparison, compare, medians, table, together


@pytest.mark.slow
def test_our_methods_are_compared_with_the_same_ones_of_other_libraries(trained, test_set):
    batch = next(test_set.batches(6, rng=np.random.default_rng(0)))
    rows = compare(trained.model, batch.images, batch.labels, repeats=1)

    assert {row.method for row in rows} >= {"grad_cam", "grad_cam_pp", "guided_backprop", "guided_grad_cam"}
    for row in rows:
        assert row.gap < 0.01 and row.ratio > 0 and row.floor_s and len(row.others_s) in (1, 2)
    every = [explainers.get(name) for name in TABLE_1 if not explainers.registry.get(name).needs_fit]
    rows.append(together(every, trained.model, batch.images, batch.labels, repeats=1))
    console = Console(width=120)
    with console.capture() as printed:
        console.print(table(rows, 6))
    assert "explain_many, 4 methods" in printed.get()


def test_ratio_is_to_the_fastest_other_and_times_are_medians():
    row = Comparison("x", 1.5, 2.0, {"slow": 9.0, "fast": 3.0}, {"forward": 1.0})
    assert row.ratio == 1.5
    calls = []
    times = medians({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert calls == ["a", "b"] * 3 and set(times) == {"a", "b"}
