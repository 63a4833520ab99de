"""The methods of captum, pytorch-grad-cam and Zennit agree with ours, or differ as docs/parity.md states."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from benchmark.experiments.evidence.parity import (
    PAIRS,
    SAME,
    Difference,
    Pair,
    compare,
    page,
    to_markdown,
)

PAGE = Path(__file__).parents[2] / "docs" / "parity.md"


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.ours}-{pair.theirs}")
def test_agrees_or_differs_as_stated(pair, trained, test_set):
    batch = next(test_set.batches(12, rng=np.random.default_rng(0)))
    (difference,) = compare(trained.model, batch.images, batch.labels, [pair])
    assert difference.as_stated, difference
    if not pair.same:
        assert difference.mean > SAME / 10


def test_the_page_is_the_one_that_the_command_writes_but_for_its_figures():
    written = PAGE.read_text()
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \| (\S+) \| (\S+) \|", written, re.M)
    figures = {(ours, theirs): (float(largest), float(mean)) for ours, theirs, largest, mean in rows}
    differences = [Difference(pair, *figures[pair.ours, pair.theirs]) for pair in PAIRS]
    assert all(difference.as_stated for difference in differences)
    (measured,) = re.findall(r"\n\n(Measured on [^`]+?)\n\n", written)
    (command,) = re.findall(r"```sh\n(.*?)\n```", written, re.DOTALL)
    assert page(differences, measured, command) == written


def test_a_pair_that_does_not_behave_as_stated_is_reported():
    pair = Pair("gradient", "captum:Saliency", True, "why")
    assert not Difference(pair, 0.5, 0.1).as_stated
    assert "| 5.0e-01 | 1.0e-01 | **differs** | why |" in to_markdown(
        [Difference(pair, 0.5, 0.1)], "a test", "x"
    )
