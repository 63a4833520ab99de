"""How often the board's statistics err where the truth is known."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy import stats

from an8flower.progress import progress
from benchmark.statistics import compared, friedman, groups, intervals

VIEWS, METHODS = 40, 7  # a board's viewpoints; table 1's rows


@dataclass(frozen=True)
class Calibration:
    """Counts over simulated boards on which all methods have the same mean.

    Args:
        boards: how many.
        alarms: on how many some method was told apart from the first at 0.05, after Holm.
        friedman_alarms: on how many Friedman's p was below 0.05.
        split: on how many `groups` gave more than one letter. The best row was read off the same scores.
        covered, intervals: how many intervals hold the true mean, of how many.
    """

    boards: int
    alarms: int
    friedman_alarms: int
    split: int
    covered: int
    intervals: int


def simulate(
    boards: int, *, rng: np.random.Generator, resamples: int = 1999, skew: bool = True
) -> Calibration:
    """Draw boards under the null and count what is wrongly found.

    A viewpoint is hard or easy for all methods alike (s = 0.03), and each method has its own luck there
    (s = 0.02), skewed as scores near zero are.

    Args:
        boards: how many.
        rng: draws all.
        resamples: of each test and interval.
        skew: lognormal differences instead of normal ones.
    """
    counts = dict.fromkeys(("alarms", "friedman_alarms", "split", "covered"), 0)
    names = [f"method{k}" for k in range(METHODS)]
    with progress("calibrate", boards, "boards") as advance:
        for _ in range(boards):
            luck = rng.lognormal(0, 0.8, (VIEWS, METHODS)) if skew else rng.normal(0, 1, (VIEWS, METHODS))
            true = np.exp(0.8**2 / 2) if skew else 0.0
            scale = 0.02 / (np.sqrt((np.exp(0.64) - 1) * np.exp(0.64)) if skew else 1)
            hard = rng.normal(0, 0.03, (VIEWS, 1))
            scores = pd.DataFrame(0.25 + hard + scale * (luck - true), columns=names)
            beside = compared(scores, names[0], names[1:], rng=rng, resamples=resamples)
            counts["alarms"] += bool((beside["p_holm"] < 0.05).any())
            counts["friedman_alarms"] += friedman(scores).p < 0.05
            counts["split"] += groups(scores, rng=rng, resamples=resamples).nunique() > 1
            bounds = intervals(scores, rng=rng, resamples=resamples)
            counts["covered"] += int(((bounds["low"] <= 0.25) & (bounds["high"] >= 0.25)).sum())
            advance(1)
    return Calibration(boards=boards, intervals=boards * METHODS, **counts)


def main() -> None:
    """Print a table of error rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boards", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    table = Table(title=f"{arguments.boards} boards of {METHODS} equal methods on {VIEWS} viewpoints")
    for heading in (
        "scores",
        "false alarm, paired + Holm",
        "Friedman",
        "groups split",
        "intervals that hold",
    ):
        table.add_column(heading)
    for skew in (False, True):
        found = simulate(arguments.boards, rng=np.random.default_rng(arguments.seed), skew=skew)
        rates = (
            _rate(found.alarms, found.boards),
            _rate(found.friedman_alarms, found.boards),
            _rate(found.split, found.boards),
            f"{found.covered / found.intervals:.1%}",
        )
        table.add_row("skewed" if skew else "normal", *rates)
    Console(width=110).print(table)


def _rate(count: int, of: int) -> str:
    low, high = stats.binomtest(count, of).proportion_ci(method="wilson")
    return f"{count / of:.1%} ({low:.1%} to {high:.1%})"


if __name__ == "__main__":
    main()
