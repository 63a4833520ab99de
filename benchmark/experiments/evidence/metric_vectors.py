"""Write test vectors of the localisation metrics: small maps, masks and the expected score of each metric.

Run `python -m benchmark.experiments.evidence.metric_vectors`; it writes `docs/metrics_vectors.json`.
The expected values come from the definitions below. They use loops and exact fractions and no other code of
this package, so they can verify this package and any other code.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from an8flower.ground import files

SCHEMA_VERSION = 1
PAGE = Path("docs/metrics_vectors.json")

Pixel = tuple[int, int]
Heatmap = dict[Pixel, Fraction]
Mask = set[Pixel]


def iou(chosen: Mask, mask: Mask) -> Fraction:
    """Return the intersection over union of two sets of pixels."""
    return Fraction(len(chosen & mask), len(chosen | mask))


def iou_steps(heatmap: Heatmap, mask: Mask) -> Iterator[tuple[Fraction, Fraction]]:
    """Yield the scaled step from the next lower value, and the IoU, of each value but the lowest."""
    values = sorted(set(heatmap.values()))
    for lower, value in pairwise(values):
        step = (value - lower) / (values[-1] - values[0])
        yield step, iou({at for at in heatmap if heatmap[at] >= value}, mask)  # IoU at this threshold


def iou_auc(heatmap: Heatmap, mask: Mask) -> Fraction:
    """Return the sum of step times IoU."""
    return sum((step * there for step, there in iou_steps(heatmap, mask)), Fraction(0))


def max_iou(heatmap: Heatmap, mask: Mask) -> Fraction:
    """Return the largest IoU."""
    return max((there for _, there in iou_steps(heatmap, mask)), default=Fraction(0))


def iou_auc_rank(heatmap: Heatmap, mask: Mask) -> Fraction:
    """Return `iou_auc` of the ranks: the mean of the positions of a value in ascending order."""
    ordered = sorted(heatmap.values())
    places = {value: [k for k, other in enumerate(ordered, 1) if other == value] for value in set(ordered)}
    return iou_auc({at: Fraction(sum(places[v]), len(places[v])) for at, v in heatmap.items()}, mask)


def pointing_game(heatmap: Heatmap, mask: Mask, within_px: int = 0) -> Fraction:
    """Return the share of the highest pixels within `within_px` (of a 250 x 250 image) of the mask."""
    peaks = [at for at in heatmap if heatmap[at] == max(heatmap.values())]
    if len(peaks) == len(heatmap):
        return Fraction(0)
    square = Fraction(within_px**2 * len(heatmap), 250**2)
    near = [any((y - b) ** 2 + (x - a) ** 2 <= square for b, a in mask) for y, x in peaks]
    return Fraction(sum(near), len(peaks))


def pointing_game_15px(heatmap: Heatmap, mask: Mask) -> Fraction:
    """Return `pointing_game` with a tolerance of 15 pixels of a 250 x 250 image."""
    return pointing_game(heatmap, mask, within_px=15)


def relevance_mass(heatmap: Heatmap, mask: Mask) -> Fraction:
    """Return the share of the positive relevance that is in the mask."""
    positive = {at: value for at, value in heatmap.items() if value > 0}
    inside = sum((value for at, value in positive.items() if at in mask), Fraction(0))
    return inside / sum(positive.values()) if positive else Fraction(0)


def share_of_highest(heatmap: Heatmap, mask: Mask, k: int) -> Fraction:
    """Return the share of the k highest pixels that is in the mask; ties at the k-th value count in part."""
    border = sorted(heatmap.values())[-k]
    sure = [at in mask for at in heatmap if heatmap[at] > border]
    tied = [at in mask for at in heatmap if heatmap[at] == border]
    return (sum(sure) + (k - len(sure)) * Fraction(sum(tied), len(tied))) / k


def relevance_rank(heatmap: Heatmap, mask: Mask) -> Fraction:
    """Return the share of the highest pixels that is in the mask, for as many pixels as the mask has."""
    return share_of_highest(heatmap, mask, len(mask))


def top_k_intersection(heatmap: Heatmap, mask: Mask) -> Fraction:
    """Return the share of the 1000 highest pixels (of a 250 x 250 image) that is in the mask."""
    return share_of_highest(
        heatmap, mask, max(1, math.floor(Fraction(1000 * len(heatmap), 250**2) + Fraction(1, 2)))
    )


def average_precision(heatmap: Heatmap, mask: Mask) -> Fraction:
    """Return the precision at every distinct value, weighted by the recall that it adds."""
    total, recall = Fraction(0), Fraction(0)
    for value in sorted(set(heatmap.values()), reverse=True):
        chosen = {at for at in heatmap if heatmap[at] >= value}
        before, recall = recall, Fraction(len(chosen & mask), len(mask))
        total += (recall - before) * Fraction(len(chosen & mask), len(chosen))
    return total


def roc_auc(heatmap: Heatmap, mask: Mask) -> Fraction | None:
    """Return the share of inside-outside pairs of pixels with the higher value inside; ties count half."""
    pairs = [(heatmap[inside], heatmap[other]) for inside, other in product(mask, set(heatmap) - mask)]
    won = sum((Fraction(2 * (inside > other) + (inside == other), 2) for inside, other in pairs), Fraction(0))
    return won / len(pairs) if pairs else None


def energy_pointing_game(heatmap: Heatmap, mask: Mask) -> Fraction:
    """Return the share of the heights above the minimum that is inside the bounding box of the mask."""
    rows, columns = [y for y, _ in mask], [x for _, x in mask]
    energy = {at: value - min(heatmap.values()) for at, value in heatmap.items()}
    boxed = [
        e for (y, x), e in energy.items() if min(rows) <= y <= max(rows) and min(columns) <= x <= max(columns)
    ]
    return sum(boxed, Fraction(0)) / total if (total := sum(energy.values(), Fraction(0))) else Fraction(0)


DEFINITIONS: dict[str, Callable[[Heatmap, Mask], Fraction | None]] = {
    definition.__name__: definition
    for definition in (
        iou_auc, iou_auc_rank, max_iou, pointing_game, pointing_game_15px, relevance_mass, relevance_rank,
        top_k_intersection, average_precision, roc_auc, energy_pointing_game,
    )
}  # fmt: skip


def expected(name: str, heatmap: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    """Return the expected score of the metric `name` for a heatmap and mask (H, W); NaN if undefined."""
    if not mask.any():
        return math.nan
    if not np.isfinite(heatmap).all():
        return 0.0
    exact = {at: Fraction(float(value)) for at, value in np.ndenumerate(heatmap)}
    score = DEFINITIONS[name](exact, {at for at, part in np.ndenumerate(mask) if part})
    return math.nan if score is None else float(score)


def cases() -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.bool_]]]:
    """Yield name, heatmap and mask of every published case. All values are exact in float32."""
    rng = np.random.default_rng(0)

    def fractions(*shape: int) -> NDArray[np.float32]:
        return (rng.integers(-512, 512, shape) / 256).astype(np.float32)

    def blob(height: int, width: int, top: int, left: int, size: int) -> NDArray[np.bool_]:
        mask = np.zeros((height, width), bool)
        mask[top : top + size, left : left + size] = True
        return mask

    square, large = blob(6, 6, 1, 2, 3), blob(17, 17, 8, 3, 4)
    peak = np.zeros((6, 6), np.float32)
    peak[2, 3] = 1
    yield "the mask itself", square.astype(np.float32), square
    yield "the mask upside down in value", 1 - square.astype(np.float32), square
    yield "one peak in the mask", peak, square
    yield "one peak outside", np.roll(peak, 3, axis=1), square
    yield "constant, zero", np.zeros((4, 4), np.float32), blob(4, 4, 0, 0, 2)
    yield "constant, positive", np.full((4, 4), 0.5, np.float32), blob(4, 4, 0, 0, 2)
    yield "signed", fractions(6, 6), square
    yield "all negative", fractions(6, 6) - 4, square
    yield "positive", np.abs(fractions(8, 8)), blob(8, 8, 4, 1, 3)
    yield "many ties", rng.integers(0, 4, (8, 8)).astype(np.float32), blob(8, 8, 2, 2, 4)
    yield "a plateau half in the mask", np.float32(4) * blob(4, 4, 1, 1, 2), blob(4, 4, 0, 2, 2)
    yield "rectified, mostly zero", np.maximum(fractions(8, 8) - 1, 0), blob(8, 8, 0, 5, 3)
    yield "not square", fractions(4, 7), rng.random((4, 7)) < 0.3
    yield "a mask in pieces", fractions(8, 8), blob(8, 8, 0, 0, 2) | blob(8, 8, 5, 5, 2)
    yield "a full mask", fractions(4, 4), np.ones((4, 4), bool)
    yield "an empty mask", fractions(4, 4), np.zeros((4, 4), bool)
    yield "a map with NaN", np.where(square, np.nan, peak).astype(np.float32), square
    outside = np.zeros((17, 17), np.float32)
    outside[7, 3] = 1
    yield "a peak just within tolerance", outside, large
    yield "a peak just beyond tolerance", np.roll(outside, -1, axis=1), large
    yield "large, several among the top", fractions(17, 17), large


ABOUT = (
    "Test vectors for metrics of heatmaps against masks. Each case has a heatmap (rows of numbers, all exact "
    "in float32; null is NaN), a mask (rows of 0 and 1) and the expected score of every metric (null is NaN: "
    "undefined). What each metric means is said in metrics.md."
)
CHECK = (
    "import json, pathlib, numpy as np",
    "for case in json.loads(pathlib.Path('metrics_vectors.json').read_text())['cases']:",
    "    heatmap, mask = np.array(case['heatmap'], np.float32), np.array(case['mask'], bool)",
    "    score = np.array(case['expected']['roc_auc'], float)",
    "    np.testing.assert_allclose(my_roc_auc(heatmap, mask), score, atol=1e-9, err_msg=case['name'])",
)


def vectors() -> dict[str, Any]:
    """Return the content of the file."""
    return {
        "schema_version": SCHEMA_VERSION,
        "about": ABOUT,
        "written_by": "python -m benchmark.experiments.evidence.metric_vectors",
        "check": list(CHECK),
        "metrics": list(DEFINITIONS),
        "cases": [
            {
                "name": name,
                "heatmap": [[_number(value) for value in row] for row in heatmap.tolist()],
                "mask": mask.astype(int).tolist(),
                "expected": {metric: _number(expected(metric, heatmap, mask)) for metric in DEFINITIONS},
            }
            for name, heatmap, mask in cases()
        ],
    }


def to_json(content: dict[str, Any]) -> str:
    """Return the content as JSON with one row of numbers per line, which is easier to read."""
    text = json.dumps(content, indent=1, allow_nan=False)
    return re.sub(r'\[[^][{}"]*\]', lambda row: "[" + " ".join(row[0][1:-1].split()) + "]", text) + "\n"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def main(out: Annotated[Path, typer.Option(help="The file to write.")] = PAGE) -> None:
    """Write the test vectors."""
    files.write(out, to_json(vectors()).encode())
    Console().print(f"wrote {out}")


if __name__ == "__main__":
    typer.run(main)
