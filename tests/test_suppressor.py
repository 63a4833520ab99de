"""Where relevance is, with and without a suppressor."""

from __future__ import annotations

import numpy as np
import pytest

from an8flower.protocol import PART_IDS
from benchmark.experiments.evidence.suppressor import PLACES, Shares, _by_place, to_markdown


def test_shares_of_the_relevance_equal_a_slow_count():
    rng = np.random.default_rng(0)
    heatmaps = rng.random((3, 6, 6), np.float32)
    heatmaps[2] = 0
    parts = rng.choice([PART_IDS[name] for name in ("background", "pot", "stem", "petals")], (3, 6, 6))
    masks = parts == PART_IDS["petals"]
    found = _by_place(heatmaps, masks, parts.astype(np.uint8))
    place_of = {PART_IDS["petals"]: "part", PART_IDS["pot"]: "pot", PART_IDS["background"]: "background"}
    for n in range(2):
        sums = dict.fromkeys(PLACES, 0.0)
        for y in range(6):
            for x in range(6):
                sums[place_of.get(parts[n, y, x], "rest of the plant")] += float(heatmaps[n, y, x])
        assert found[n] == pytest.approx(np.array(list(sums.values())) / heatmaps[n].sum())
    assert (found[2] == 0).all()


def test_methods_whose_relevance_moves_to_the_pot_come_first():
    rows = [Shares("stays", (0.9, 0.0, 0.1, 0.0), (0.9, 0.0, 0.1, 0.0)),
            Shares("moves", (0.9, 0.0, 0.1, 0.0), (0.5, 0.3, 0.2, 0.0))]  # fmt: skip
    lines = to_markdown(rows, {"plain": 1.0, "suppressor": 0.98}, "a command").splitlines()
    assert "| `moves` | 90.0, 50.0 | 0.0, 30.0 | 10.0, 20.0 | 0.0, 0.0 |" in lines[-2]
    assert "100.0 % and 98.0 %" in lines[0]
