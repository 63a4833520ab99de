"""Measure how often the board's statistics err if all methods have the same mean.

Run `python -m benchmark.experiments.evidence.calibration`; docs/statistics.md shows the results.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import stats

from an8flower.ground.progress import progress
from benchmark.statistics import by_arc, compared, compared_with_best, friedman, groups, intervals

Luck = Callable[[np.random.Generator, int], NDArray[np.float64]]

VIEWS, FOLDS, METHODS = 40, 5, 7  # views and folds of a board; explainers in the paper's table 1
# Mean score; deviation of the effect of a view on all methods together, and on each method.
MEAN, HARDNESS, SPREAD = 0.25, 0.03, 0.02
SKEW = 0.8  # deviation of the lognormal's logarithm: more skewed than any explainer of the board
SMOOTH = 2.5  # waves around the plant: views 9 degrees apart correlate at 0.96, 45 degrees apart at 0.4
IMAGES = 0.25  # deviation of the part of a view's effect that its neighbours do not share
# Deviation of a model's effect on all views of its fold: larger than for nine of ten explainers, and as for
# the worst one observed.
MODELS, MODELS_MOST = 0.25, 0.65


def normal(rng: np.random.Generator, methods: int) -> NDArray[np.float64]:
    """Draw (views, methods) of mean 0 and deviation 1, as all of these functions: independent views."""
    return rng.standard_normal((VIEWS, methods))


def skewed(rng: np.random.Generator, methods: int) -> NDArray[np.float64]:
    """Draw as `normal`, but lognormal."""
    deviation = math.sqrt((math.exp(SKEW**2) - 1) * math.exp(SKEW**2))
    drawn: NDArray[np.float64] = rng.lognormal(0, SKEW, (VIEWS, methods)) - math.exp(SKEW**2 / 2)
    return drawn / deviation


def poses(rng: np.random.Generator, methods: int) -> NDArray[np.float64]:
    """Draw correlated neighbouring views of a random plant: the mean over the circle varies too."""
    return _smooth(rng, methods)


def circle(rng: np.random.Generator, methods: int) -> NDArray[np.float64]:
    """Draw correlated neighbouring views of this plant: the mean over the circle is 0, except for noise."""
    drawn = _smooth(rng, methods)
    return np.asarray(drawn - drawn.mean(axis=0) + IMAGES * rng.standard_normal(drawn.shape))


def models(rng: np.random.Generator, methods: int, deviation: float = MODELS) -> NDArray[np.float64]:
    """Draw as `circle`, and let the model of each fold favour some methods in all its views."""
    favour = np.tile(rng.standard_normal((FOLDS, methods)), (VIEWS // FOLDS, 1))
    return circle(rng, methods) + deviation * favour


SCENARIOS: dict[str, tuple[Luck, int]] = {
    "views independent, normal": (normal, 1),
    "views independent, skewed": (skewed, 1),
    "neighbours alike, this circle": (circle, 1),
    "the same, models differ": (models, 1),
    "the same, models differ most": (partial(models, deviation=MODELS_MOST), 1),
    "neighbours alike, any plant": (poses, 1),
    "the same, by arcs of 5": (poses, 5),
}


@dataclass(frozen=True)
class Calibration:
    """Counts over simulated boards on which all methods have the same mean.

    Args:
        boards: number of boards.
        alarms: boards on which a method differs significantly from one named in advance, at 0.05 after
            Holm's correction.
        best_alarms: boards on which a method differs significantly from the best one, by `p_holm`, which
            does not correct for the choice of the best.
        split: boards on which `groups` has more than one letter.
        friedman_alarms: boards on which Friedman's p is below 0.05.
        covered, intervals: number of 95 % intervals that contain the true mean, and of all intervals.
    """

    boards: int
    alarms: int
    best_alarms: int
    split: int
    friedman_alarms: int
    covered: int
    intervals: int


def simulate(
    boards: int,
    *,
    rng: np.random.Generator,
    luck: Luck = normal,
    arc: int = 1,
    methods: int = METHODS,
    resamples: int = 999,
) -> Calibration:
    """Draw boards under the null hypothesis and count false findings.

    A view has an effect on all methods together and an effect on each method. The images of a view share
    both effects, so a view is a cluster.

    Args:
        boards: number of boards.
        rng: draws all random numbers.
        luck: draws the effects of the views.
        arc: number of neighbouring views that are averaged first.
        methods: methods of a board.
        resamples: resamples of each test and interval.
    """
    counts = dict.fromkeys(("alarms", "best_alarms", "split", "friedman_alarms", "covered"), 0)
    names = [f"method{k}" for k in range(methods)]
    index = pd.MultiIndex.from_arrays(
        [np.arange(VIEWS) % FOLDS, np.arange(1, VIEWS + 1)], names=["fold", "view"]
    )
    with progress("calibrate", boards, "boards") as advance:
        for _ in range(boards):
            drawn = HARDNESS * luck(rng, 1) + SPREAD * luck(rng, methods)
            scores = pd.DataFrame(MEAN + drawn, columns=names, index=index)
            if arc > 1:
                scores = by_arc(scores, arc)
            named = compared(scores, names[0], names[1:], rng=rng, resamples=resamples)
            best = compared_with_best(scores, rng=rng, resamples=resamples)
            bounds = intervals(scores, rng=rng, resamples=resamples)
            counts["alarms"] += bool((named["p_holm"] < 0.05).any())
            counts["best_alarms"] += bool((best["p_holm"] < 0.05).any())
            counts["split"] += groups(scores, rng=rng, resamples=resamples).nunique() > 1
            counts["friedman_alarms"] += friedman(scores).p < 0.05
            counts["covered"] += int(((bounds["low"] <= MEAN) & (bounds["high"] >= MEAN)).sum())
            advance(1)
    return Calibration(boards=boards, intervals=boards * methods, **counts)


def main(
    boards: Annotated[int, typer.Option(help="Simulated boards per scenario.")] = 500,
    methods: Annotated[int, typer.Option(help="Methods of a board.")] = METHODS,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 0,
) -> None:
    """Print a table of error rates, with 95 % intervals of these rates."""
    table = Table(title=f"{boards} boards of {methods} equal methods on {VIEWS} views")
    for heading in ("scores", "named, Holm", "best, Holm", "groups", "Friedman", "intervals that cover"):
        table.add_column(heading, no_wrap=True)
    for name, (luck, arc) in SCENARIOS.items():
        errors = simulate(boards, rng=np.random.default_rng(seed), luck=luck, arc=arc, methods=methods)
        alarms = (errors.alarms, errors.best_alarms, errors.split, errors.friedman_alarms)
        table.add_row(
            name,
            *(_rate(count, errors.boards) for count in alarms),
            f"{errors.covered / errors.intervals:.1%}",
        )
    Console(width=170).print(table)


def _rate(count: int, of: int) -> str:
    low, high = stats.binomtest(count, of).proportion_ci(method="wilson")
    return f"{count / of:.1%} ({low:.1%} to {high:.1%})"


def _smooth(rng: np.random.Generator, methods: int) -> NDArray[np.float64]:
    """Draw a stationary Gaussian process around the circle, of deviation 1: (views, methods)."""
    waves = np.fft.rfftfreq(VIEWS, 1 / VIEWS)
    amplitude = np.exp(-((waves / SMOOTH) ** 2) / 2)[:, None]
    drawn = np.fft.irfft(
        np.fft.rfft(rng.standard_normal((VIEWS, methods)), axis=0) * amplitude, VIEWS, axis=0
    )
    both_ways = np.concatenate([amplitude, amplitude[1:-1]])  # the real transform has one of each pair
    return np.asarray(drawn / np.sqrt((both_ways**2).mean()))


if __name__ == "__main__":
    typer.run(main)
