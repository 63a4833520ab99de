"""How often the board's statistics err where the truth is known: all methods have the same mean.

Run `python -m benchmark.experiments.evidence.calibration`; docs/statistics.md shows what came out.
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

VIEWS, FOLDS, METHODS = 40, 5, 7  # a board's viewpoints and folds; table 1's rows
MEAN, HARDNESS, SPREAD = 0.25, 0.03, 0.02  # of scores; of what views do to all methods alike, and to each
SKEW = 0.8  # of the lognormal's logarithm: more skew than any row of the board has
SMOOTH = 2.5  # waves round the plant: neighbouring views correlate at 0.96, those 45 degrees apart at 0.4
IMAGES = 0.25  # what views do that their neighbours do not share
# What a model does to all views of its fold: more than in nine rows of ten, and as in the worst one seen.
MODELS, MODELS_MOST = 0.25, 0.65


def normal(rng: np.random.Generator, methods: int) -> NDArray[np.float64]:
    """(views, methods), of mean 0 and deviation 1, as all of these: viewpoints have nothing in common."""
    return rng.standard_normal((VIEWS, methods))


def skewed(rng: np.random.Generator, methods: int) -> NDArray[np.float64]:
    """As `normal`, but lognormal."""
    deviation = math.sqrt((math.exp(SKEW**2) - 1) * math.exp(SKEW**2))
    drawn: NDArray[np.float64] = rng.lognormal(0, SKEW, (VIEWS, methods)) - math.exp(SKEW**2 / 2)
    return drawn / deviation


def poses(rng: np.random.Generator, methods: int) -> NDArray[np.float64]:
    """Neighbours are alike, and the plant itself is one of many: the whole circle may be lucky."""
    return _smooth(rng, methods)


def circle(rng: np.random.Generator, methods: int) -> NDArray[np.float64]:
    """Neighbours are alike, and the 40 views are all there is to know: their luck cancels but for noise."""
    drawn = _smooth(rng, methods)
    return np.asarray(drawn - drawn.mean(axis=0) + IMAGES * rng.standard_normal(drawn.shape))


def models(rng: np.random.Generator, methods: int, deviation: float = MODELS) -> NDArray[np.float64]:
    """As `circle`, and each fold's model favours some methods in all its views."""
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
        boards: how many.
        alarms: on how many some method was told apart from one named before, at 0.05 after Holm.
        best_alarms: the same of the method that came out best: `p_holm`, which knows nothing of that choice.
        split: on how many `groups` gave more than one letter.
        friedman_alarms: on how many Friedman's p was below 0.05.
        covered, intervals: how many 95 % intervals hold the true mean, of how many.
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
    """Draw boards under the null and count what is wrongly found.

    A viewpoint is hard or easy for all methods alike, and each method has its own luck there; the images of
    a viewpoint share both, which is why it is a cluster.

    Args:
        boards: how many.
        rng: draws all.
        luck: how.
        arc: viewpoints that are averaged before.
        methods: rows of a board.
        resamples: of each test and interval.
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
    boards: Annotated[int, typer.Option(help="simulated boards a scenario")] = 500,
    methods: Annotated[int, typer.Option(help="rows of a board")] = METHODS,
    seed: Annotated[int, typer.Option(help="of all that is drawn")] = 0,
) -> None:
    """Print a table of error rates, with 95 % intervals of the rates themselves."""
    table = Table(title=f"{boards} boards of {methods} equal methods on {VIEWS} viewpoints")
    for heading in ("scores", "named, Holm", "best, Holm", "groups", "Friedman", "intervals that hold"):
        table.add_column(heading, no_wrap=True)
    for name, (luck, arc) in SCENARIOS.items():
        found = simulate(boards, rng=np.random.default_rng(seed), luck=luck, arc=arc, methods=methods)
        alarms = (found.alarms, found.best_alarms, found.split, found.friedman_alarms)
        table.add_row(
            name,
            *(_rate(count, found.boards) for count in alarms),
            f"{found.covered / found.intervals:.1%}",
        )
    Console(width=170).print(table)


def _rate(count: int, of: int) -> str:
    low, high = stats.binomtest(count, of).proportion_ci(method="wilson")
    return f"{count / of:.1%} ({low:.1%} to {high:.1%})"


def _smooth(rng: np.random.Generator, methods: int) -> NDArray[np.float64]:
    """A stationary Gaussian process round the circle of deviation 1: (views, methods)."""
    waves = np.fft.rfftfreq(VIEWS, 1 / VIEWS)
    amplitude = np.exp(-((waves / SMOOTH) ** 2) / 2)[:, None]
    drawn = np.fft.irfft(
        np.fft.rfft(rng.standard_normal((VIEWS, methods)), axis=0) * amplitude, VIEWS, axis=0
    )
    both_ways = np.concatenate([amplitude, amplitude[1:-1]])  # the real transform keeps one of each pair
    return np.asarray(drawn / np.sqrt((both_ways**2).mean()))


if __name__ == "__main__":
    typer.run(main)
