"""The same methods of captum, pytorch-grad-cam and Zennit agree with ours, and differ where it is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark.experiments.evidence.parity import PAIRS, SAME, Found, Pair, compare, to_markdown

PAGE = Path(__file__).parents[2] / "docs" / "parity.md"


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.ours}-{pair.theirs}")
def test_agrees_or_differs_as_stated(pair, trained, test_set):
    batch = next(test_set.batches(12, rng=np.random.default_rng(0)))
    (found,) = compare(trained.model, batch.images, batch.labels, [pair])
    assert found.as_stated, found
    if not pair.same:
        assert found.mean > SAME / 10


def test_the_page_has_every_pair_with_its_verdict():
    page = PAGE.read_text()
    for pair in PAIRS:
        line = next(line for line in page.splitlines() if f"| `{pair.ours}` | `{pair.theirs}` |" in line)
        assert ("**differs**" in line) != pair.same and line.endswith(f"| {pair.why} |")


def test_a_pair_that_comes_out_otherwise_is_seen():
    pair = Pair("gradient", "captum:Saliency", True, "why")
    assert not Found(pair, 0.5, 0.1).as_stated
    assert "| 5.0e-01 | 1.0e-01 | **differs** | why |" in to_markdown([Found(pair, 0.5, 0.1)], "a test", "x")
