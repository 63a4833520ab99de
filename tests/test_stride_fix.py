"""The grid that strided convolutions leave in heatmaps, and that the stride fix takes away."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmark.experiments.evidence.stride_fix import figure, grid_energy, measure


def test_energy_is_found_at_the_grid_and_nowhere_else():
    y, x = np.mgrid[:48, :48]
    waves = {
        stride: torch.from_numpy(np.cos(2 * np.pi * x / stride) + np.sin(2 * np.pi * y / 16))[None]
        for stride in (2, 3, 4, 24)
    }
    assert float(grid_energy(waves[3], 3)) == pytest.approx(1 / 2)
    assert float(grid_energy(waves[4], 4)) == pytest.approx(1 / 2)
    assert float(grid_energy(waves[24], 2)) == pytest.approx(0, abs=1e-12)
    assert float(grid_energy(torch.zeros(1, 48, 48), 2)) == 0


def test_the_fix_takes_most_of_the_grid_of_conv1_away(trained, test_set):
    """The paper's figure 2 as a number."""
    images = next(test_set.batches(4, rng=np.random.default_rng(0))).images
    drop = measure(trained.model, images, "conv1", 2)
    assert drop.ratio >= 5 and len(drop.by_channel) > 16
    assert len(figure(trained.model, images[:2], "conv1", [0, 1]).axes) == 10
