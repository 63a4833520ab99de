"""Where relevance is, with and without a suppressor."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from an8flower.dataset import Batch
from an8flower.drawing.factors import FACTORS
from an8flower.drawing.renderer import Renderer
from an8flower.protocol import PART_IDS
from an8flower.variants import variants
from benchmark.experiments.evidence.suppressor import (
    PLACES,
    RELIT,
    SATURATION,
    TURN_DEG,
    Shares,
    _by_place,
    changed_answers,
    relit,
    to_markdown,
)


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
    changed = {"plain": dict.fromkeys(RELIT, 0.0), "suppressor": dict.fromkeys(RELIT, 0.4)}
    lines = to_markdown(rows, {"plain": 1.0, "suppressor": 0.98}, changed, "a command").splitlines()
    assert "| `moves` | 90.0, 50.0 | 0.0, 30.0 | 10.0, 20.0 | 0.0, 0.0 |" in lines[-2]
    assert "100.0 % under neutral light, and 98.0 %" in lines[0]
    assert "| pot and background | 0.0 | 40.0 |" in lines


@pytest.mark.slow
def test_pixels_under_another_light_are_those_that_are_drawn_under_it():
    """But for highlights, and where a channel has its largest value."""
    renderer = Renderer(variants.get("single-6c"))
    defaults = {name: factor.default for name, factor in FACTORS.items()}
    lights = [(200.0, SATURATION), (200.0 + TURN_DEG, SATURATION)]
    drawn = [
        renderer.render(0, 5, defaults | {"light_hue": hue, "light_saturation": saturation})
        for hue, saturation in lights
    ]
    before, after = (frame.image.transpose(2, 0, 1).astype(np.float32) / 255 for frame in drawn)
    everywhere = np.ones(before.shape[1:], bool)
    difference = np.abs(relit(before, everywhere, *lights) - after).max(axis=0)
    pot = drawn[0].part_ids == PART_IDS["pot"]
    assert np.median(difference[pot]) < 0.03
    assert np.median(np.abs(before - after).max(axis=0)[pot]) > 0.2
    part = drawn[0].part_ids == PART_IDS["petals"]
    kept = relit(before, ~part, *lights)
    assert np.array_equal(kept[:, part], before[:, part])


def test_a_model_that_reads_the_pot_changes_its_answers():
    class Pot(nn.Module):
        """Says whether the pot is more red than blue."""

        def forward(self, images):
            return images[:, [0, 2], 4:].mean((2, 3))

    class Greens(nn.Module):
        """Says whether the pot is more red than green."""

        def forward(self, images):
            return images[:, [0, 1], 4:].mean((2, 3))

    images = torch.full((4, 3, 6, 6), 0.5)
    images[:, 2] = 0.4
    masks = torch.zeros(4, 6, 6, dtype=torch.bool)
    masks[:, 0] = True
    parts = torch.full((4, 6, 6), PART_IDS["background"], dtype=torch.uint8)
    parts[:, 4:] = PART_IDS["pot"]

    class Data:
        table = pd.DataFrame({"class": [1] * 4})

        def __len__(self):
            return 4

        def __getitem__(self, index):
            return images[index], (0, None, parts[index])

        def batches(self, size):
            yield Batch(images, torch.zeros(4, dtype=torch.int64), masks, np.arange(4))

    images[:, 0, 4:], images[:, 2, 4:] = 0.5, 0.49  # the green light of hue 120 dims both alike
    found = changed_answers(Pot(), Data(), saturation=SATURATION)
    assert set(found.values()) == {0}
    images[:, 1] = 0.4
    found = changed_answers(Greens(), Data(), saturation=SATURATION)
    assert found == {
        "pot": 1, "background": 0, "pot and background": 1, "all but the part": 1, "all": 1,
    }  # fmt: skip
