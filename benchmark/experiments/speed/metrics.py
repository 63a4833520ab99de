"""Measure the speed of the localisation metrics, of a plain loop and of Quantus, in one run with one thread.

Run `python -m benchmark.experiments.speed.metrics`; Quantus is measured where it is installed.
"""

from __future__ import annotations

import importlib
import platform
import warnings
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from an8flower.ground.memo import sharing
from an8flower.ground.torchvision_shim import import_torchvision
from benchmark.experiments.speed.links import medians, threshold_loop
from benchmark.metrics import iou_auc, iou_curve, metrics
from benchmark.metrics.relevance import top_k

SIDE_PX = 112
BATCHES = (32, 100)
REPEATS = 9

ALIKE = {
    "PointingGame": "pointing_game",
    "AttributionLocalisation": "relevance_mass",
    "RelevanceMassAccuracy": "relevance_mass",
    "RelevanceRankAccuracy": "relevance_rank",
    "TopKIntersection": "top_k_intersection",
    "AUC": "roc_auc",
}
"""Quantus' metrics of a map against one mask, and the equivalent metrics here."""

Maps = NDArray[np.float32]
Masks = NDArray[np.bool_]


def main() -> None:
    """Measure all metrics and print a table."""
    table = Table(
        title=f"{SIDE_PX} x {SIDE_PX} maps on {platform.machine()}, one thread", title_justify="left"
    )
    for heading in ("what", "per map", "alternative", "per map", "ratio"):
        table.add_column(heading)
    with threadpool_limits(1):
        for count in BATCHES:
            _against_others(table, *simulated(count, rng=np.random.default_rng(0)))
        _each(table, *simulated(BATCHES[-1], rng=np.random.default_rng(0)))
    Console(width=120).print(table)


def simulated(count: int, *, rng: np.random.Generator) -> tuple[Maps, Masks]:
    """Simulate maps: noise that is higher in a square of 7 % of the image, at a random place; no ties."""
    masks = np.zeros((count, SIDE_PX, SIDE_PX), bool)
    for mask, (top, left) in zip(masks, rng.integers(0, SIDE_PX - 30, (count, 2)), strict=True):
        mask[top : top + 30, left : left + 30] = True
    return (rng.standard_normal(masks.shape) + masks).astype(np.float32), masks


def together(names: Iterable[str], maps: Maps, masks: Masks) -> None:
    """Compute all scores and the curve, as the harness does."""
    with sharing(maps, masks):
        for name in names:
            metrics.get(name).compute(maps, masks)
        iou_curve(maps, masks)


def of_quantus(maps: Maps, masks: Masks) -> tuple[Callable[[], object], Callable[[], object]] | None:
    """Return functions that score the maps with Quantus' six metrics; None if it is not installed.

    Returns:
        the calls that Quantus' users make, and their arithmetic alone, without checks and preparation.
    """
    try:
        import_torchvision()
        quantus = importlib.import_module("quantus")
    except ImportError:
        return None
    own = {"TopKIntersection": {"k": top_k(SIDE_PX**2)}}
    scorers = [getattr(quantus, name)(disable_warnings=True, **own.get(name, {})) for name in ALIKE]
    arrays = {"x_batch": np.zeros_like(maps)[:, None], "a_batch": maps[:, None], "s_batch": masks[:, None]}
    rest = {"model": None, "y_batch": np.zeros(len(maps), int), "batch_size": len(maps)}
    return (
        lambda: [score(**arrays, **rest) for score in scorers],
        lambda: [score.evaluate_batch(**arrays) for score in scorers],
    )


def _localisation() -> list[str]:
    return [name for name in metrics.names() if metrics.get(name).kind == "localisation"]


def _against_others(table: Table, maps: Maps, masks: Masks) -> None:
    count, names = len(maps), _localisation()

    def row(what: str, ours: Callable[[], object], name: str, other: Callable[[], object]) -> None:
        mine, theirs = medians(ours, other, REPEATS)
        table.add_row(
            f"{what}, {count} maps", _us(mine / count), name, _us(theirs / count), f"{theirs / mine:.1f}x"
        )

    def loop() -> None:
        for heatmap, mask in zip(maps, masks, strict=True):
            threshold_loop(heatmap, mask)

    def one_by_one() -> None:
        for name in names:
            metrics.get(name).compute(maps, masks)
        iou_curve(maps, masks)

    whole = f"all {len(names)} and the curve"
    row("iou_auc alone", lambda: iou_auc(maps, masks), "NumPy loop over 100 thresholds", loop)
    row(whole, lambda: together(names, maps, masks), "the same, nothing shared", one_by_one)
    alike = sorted(set(ALIKE.values()))
    for name, quantus in zip(
        ("Quantus, six metrics", "their evaluate_batch"), of_quantus(maps, masks) or (), strict=False
    ):
        row(whole, lambda: together(names, maps, masks), name, quantus)
        equivalent = f"the {len(alike)} equivalent ones and the curve"
        row(equivalent, lambda: together(alike, maps, masks), "the same", quantus)


def _each(table: Table, maps: Maps, masks: Masks) -> None:
    """Measure each metric separately, and after other metrics have ranked the maps."""
    table.add_section()
    for name in _localisation():
        compute = metrics.get(name).compute
        with sharing(maps, masks):
            iou_auc(maps, masks)
            shared, _ = medians(lambda: compute(maps, masks), lambda: None, REPEATS)  # noqa: B023
        alone, _ = medians(lambda: compute(maps, masks), lambda: None, REPEATS)  # noqa: B023
        count = len(maps)
        table.add_row(
            f"{name}, ranked before", _us(shared / count), "the same, alone", _us(alone / count), ""
        )


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} µs"


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Quantus warns with advice
        main()
